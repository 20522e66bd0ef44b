"""Normalised text to a form: what is split first, what stays together.

From loosest to tightest: lists (`,` `;` or, and), unions and differences, relations, brackets with commas inside, `±`,
and then single values with their units, words, ratios and numbers in a base.
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import permutations

from overproof.grading.domain.forms import MATCHING, RELATIONS, Form, Kind, bracketed, split_signs, split_top
from overproof.grading.domain.parser import parse
from overproof.grading.domain.symbols import NUMBER_WORDS, SAME_WORDS
from overproof.grading.domain.tree import Node, Unreadable, number, walk
from overproof.grading.domain.units import split_unit

MAX_ITEMS = 64
"""The longest list among the gold answers of MATH and OlympiadBench has 18 members; matching is quadratic."""

MAX_CACHED_CHARS = 200
"""Longer answers are read afresh each time: 10,000 trees of that length would fill the memory."""

MAX_NESTING = 6
"""A list of sets of tuples has three levels."""

_MATRIX = re.compile(
    r"^(?P<factor>[^\\]*(?:\\frac\{[^{}]*\}\{[^{}]*\})?)\*?\\begin\{(?P<kind>[pbBvV]?(?:small)?matrix|array)\}(?:\{[lcr|@ ]*\})?"
    r"(?P<rows>(?:(?!\\begin).)*)\\end\{(?P=kind)\}$",
    re.DOTALL,
)
_IN_BRACKETS = re.compile(r"^[\[(]\s*(\\begin\{array\}.*\\end\{array\})\s*[\])]$", re.DOTALL)
_BASED = re.compile(r'^"?(-?[0-9A-Fa-f]+(?:\.[0-9A-Fa-f]+)?)"?_\{?"?(\d{1,2})"?\}?$', re.ASCII)
_BASE_WORDS = re.compile(r'^([0-9A-Fa-f]+)[ "(]*base[ -]?(\d{1,2})[")]*$', re.ASCII)
_CHOICE = re.compile(r'^(?:\("?([A-J])"?\)|"\(([A-J])\)"|"?([A-J])"?[.):]) ?(?=[^\s.])(.+)$', re.DOTALL)
_LETTER = re.compile(r'^"?\(?"?([A-Za-z])"?\)?"?$')
_TO = re.compile(r"^(\d+) to (\d+)$", re.ASCII)
_PARENTHESISED_BASE = re.compile(r"^\((\w+)\)(_\{?\d+\}?)$", re.ASCII)
_RATIO = re.compile(r"^[^:]+(?::[^:]+){1,3}$")
_WORDS = re.compile(r"^(?=.*[^\W\d_]{2})[\w\s\"'.,;:!?()&-]*$")
_DIGITS = re.compile(r"^[\d\s.,]+$")
_LETTER_RUN = re.compile(r"^[A-Z]{2,}$")
_EMPTY_SETS = frozenset({"∅", "❴❵", "empty set", "the empty set"})
_NO_SOLUTIONS = frozenset(
    {"no solution", "no solutions", "no real solution", "no real solutions", "there is no solution"}
)
_CLOCK = re.compile(r'^(\d{1,2}):([0-5]\d)(?:(?: |")?([ap])\.? ?m\.?"?)?$', re.IGNORECASE)
_ALL_REALS = frozenset({"ℝ", "all real numbers", "all reals", "all real", "reals", "the real numbers", "real numbers"})


def read(text: str, nesting: int = 0) -> Form:
    """The form of normalised text; `opaque` when the grammar does not cover it. Raises TooLarge for numbers past the limits."""
    return _read_cached(text, nesting) if len(text) <= MAX_CACHED_CHARS else _read(text, nesting)


def _read(text: str, nesting: int) -> Form:
    text = text.strip()
    if nesting > MAX_NESTING or not text:
        return Form(Kind.OPAQUE, text)
    for reader in (_read_special, _read_list, _read_union, _read_relation, _read_bracketed):
        form = reader(text, nesting + 1)
        if form is not None:
            return form
    form = _read_mark(text) or _read_leaf(text)
    if form.kind is Kind.OPAQUE and bracketed(text) == "()":
        return read(text[1:-1], nesting + 1)
    return form


_read_cached = lru_cache(maxsize=10_000)(_read)


def _read_special(text: str, nesting: int) -> Form | None:
    bare = words_of(text)
    if text in _EMPTY_SETS or bare in _EMPTY_SETS or bare in _NO_SOLUTIONS:
        return Form(Kind.SET)
    if text in _ALL_REALS or bare in _ALL_REALS:
        return Form(Kind.REALS)
    if (match := _CHOICE.match(text)) and not text.endswith(")("):
        return Form(Kind.CHOICE, match[1] or match[2] or match[3], (read(match[4].strip(), nesting),))
    if "\\begin" in text and not any(sign in text.partition("\\begin")[0] for sign in RELATIONS):
        return _read_matrix(text, nesting)
    return None


def _read_matrix(text: str, nesting: int) -> Form | None:
    if inner := _IN_BRACKETS.match(text):
        text = inner[1]
    match = _MATRIX.match(text)
    if match is None:
        return Form(Kind.OPAQUE, text)
    rows = [row.strip() for row in match["rows"].replace("\\hline", "").split("\\\\")]
    cells = [[cell.strip() for cell in row.split("&")] for row in rows if row]
    if sum(map(len, cells)) > MAX_ITEMS:
        return Form(Kind.OPAQUE, text)
    factor = match["factor"].rstrip("*")
    if factor:
        cells = [[f"({factor})*({cell})" for cell in row] for row in cells]
    items = tuple(Form(Kind.TUPLE, "()", tuple(read(cell, nesting) for cell in row)) for row in cells)
    if match["kind"].startswith("v"):
        return _determinant(items) or Form(Kind.OPAQUE, text)
    return Form(Kind.MATRIX, "", items)


MAX_DETERMINANT_ROWS = 4
"""Twenty-four products of four; larger ones are left to the slow path."""


def _determinant(rows: tuple[Form, ...]) -> Form | None:
    """`vmatrix` is a number, not a table: the determinant by its definition. None when it has none here."""
    if len(rows) > MAX_DETERMINANT_ROWS or any(len(row.items) != len(rows) for row in rows):
        return None
    if any(cell.node is None for row in rows for cell in row.items):
        return None
    terms = []
    for order in permutations(range(len(rows))):
        cells = tuple(row.items[at].node or number(0) for row, at in zip(rows, order, strict=True))
        product = Node("mul", cells) if len(cells) > 1 else cells[0]
        turns = sum(order[i] > order[j] for i in range(len(order)) for j in range(i + 1, len(order)))
        terms.append(Node("neg", (product,)) if turns % 2 else product)
    return Form(Kind.SCALAR, node=Node("add", tuple(terms)) if len(terms) > 1 else terms[0])


def _read_list(text: str, nesting: int) -> Form | None:
    pieces = split_signs(text, ",;∨∧")
    if len(pieces) < 2:
        return None
    found = [(piece, sign) for piece, sign in pieces if piece]
    if len(found) > MAX_ITEMS or not found:
        return Form(Kind.OPAQUE, text)
    if len(found) == 1:
        return read(found[0][0], nesting)
    signs = {sign for _, sign in found[:-1]}
    items = tuple(read(piece, nesting) for piece, _ in found)
    if all(item.kind is Kind.WORDS for item in items) and not signs - {","} and _is_prose(text):
        return Form(Kind.WORDS, words_of(text))
    return _of_heads(items) or Form(Kind.LIST, "∨" if "∨" in signs else "∧" if "∧" in signs else ",", _spread(items))


def _is_prose(text: str) -> bool:
    return len(text.split()) > 6


def _spread(items: tuple[Form, ...]) -> tuple[Form, ...]:
    """The members of a list, with those that are lists themselves (`\\pm 6, \\pm 2`) laid out."""
    return tuple(part for item in items for part in (item.items if item.kind is Kind.LIST else (item,)))


def _of_heads(items: tuple[Form, ...]) -> Form | None:
    """`x=1, x=2` as the list 1, 2, and `x=1, y=2` as the tuple (1, 2) in the order of the names; None for other lists."""
    if not all(item.kind is Kind.RELATION and item.text == "=" and _is_name(item.items[0]) for item in items):
        return None
    names = [item.items[0].node for item in items]
    if len(set(names)) == 1:
        return Form(Kind.LIST, ",", tuple(item.items[1] for item in items))
    if len(set(names)) < len(names):
        return None
    ordered = sorted(items, key=lambda item: str(item.items[0].node.value if item.items[0].node else ""))
    return Form(Kind.TUPLE, "()", tuple(item.items[1] for item in ordered))


def _is_name(form: Form) -> bool:
    return form.node is not None and form.node.op == "sym"


def _read_union(text: str, nesting: int) -> Form | None:
    for sign, kind in (("∪", Kind.UNION), ("∖", Kind.DIFFERENCE)):
        pieces = split_top(text, sign)
        if len(pieces) > 1 and all(_has_mark(piece) == _has_mark(text) for piece in pieces):
            if len(pieces) > MAX_ITEMS:
                return Form(Kind.OPAQUE, text)
            return Form(kind, "", tuple(read(piece, nesting) for piece in pieces))
    return None


def _has_mark(text: str) -> bool:
    return any(mark in text for mark in "=<>≤≥≠")


def _read_relation(text: str, nesting: int) -> Form | None:
    pieces = split_signs(text.lstrip("=≈ "), RELATIONS)
    if len(pieces) < 2:
        return read(pieces[0][0], nesting) if text[0] in "=≈" else None
    if len(pieces) > 5 or not all(piece for piece, _ in pieces):
        return Form(Kind.OPAQUE, text)
    signs = "".join(sign for _, sign in pieces)
    items = tuple(read(piece, nesting) for piece, _ in pieces)
    return items[-1] if signs == "∈" else Form(Kind.RELATION, signs, items)


def _read_bracketed(text: str, nesting: int) -> Form | None:
    brackets = bracketed(text)
    if brackets is None:
        return None
    inside = text[1:-1]
    if brackets == "❴❵" and (condition := re.match(r"^\w+(?:∈ℝ)?[|:](.+)$", inside)):
        return read(condition[1], nesting)
    pieces = split_top(inside, ",;")
    if len(pieces) > MAX_ITEMS:
        return Form(Kind.OPAQUE, text)
    if brackets == "❴❵":
        return Form(Kind.SET, "", _spread(tuple(read(piece, nesting) for piece in pieces)))
    if len(pieces) < 2:
        return None if MATCHING[brackets[0]] == brackets[1] else Form(Kind.OPAQUE, text)
    return Form(Kind.TUPLE, "()" if brackets == "⟨⟩" else brackets, tuple(read(piece, nesting) for piece in pieces))


def _read_mark(text: str) -> Form | None:
    """An ellipsis, or a time of day: `3:05`, `10:30 pm`."""
    if text == "…":
        return Form(Kind.WORDS, text)
    if (match := _CLOCK.match(text)) and (match[3] or match[2][0] == "0"):
        return Form(Kind.WORDS, f"{int(match[1])}:{match[2]}{(match[3] or '').lower()}")
    return None


def _read_leaf(text: str) -> Form:
    if match := _LETTER.match(text):
        return _scalar(match[1], text)._replace(text="choice" if "(" in text and match[1] in "abcdeABCDE" else "")
    if match := _TO.match(text):
        text = f"{match[1]}:{match[2]}"
    if match := _PARENTHESISED_BASE.match(text):
        text = match[1] + match[2]
    if match := _BASED.match(text) or _BASE_WORDS.match(text):
        if int(match[2]) == 10 and match[1].isdigit():
            return Form(Kind.SCALAR, node=number(int(match[1])))
        return Form(Kind.BASED, match[1].lstrip("0").upper() or "0", unit=str(int(match[2])))
    if ":" in text and _RATIO.match(text):
        return _ratio(text)
    if _LETTER_RUN.match(text):
        return Form(Kind.WORDS, text.lower())
    words = words_of(text)
    if words in NUMBER_WORDS:
        return Form(Kind.SCALAR, node=number(NUMBER_WORDS[words]))
    return _scalar(text, text)


def _ratio(text: str) -> Form:
    parts = tuple(_scalar(piece, piece) for piece in text.split(":"))
    if all(part.kind is Kind.SCALAR for part in parts):
        return Form(Kind.RATIO, "", parts)
    head, _, rest = text.partition(":")
    if _WORDS.match(head):
        return _scalar(rest.strip(), text)
    return Form(Kind.WORDS, words_of(text)) if _WORDS.match(text) or text[0] == '"' else Form(Kind.OPAQUE, text)


def _scalar(text: str, whole: str) -> Form:
    measure = split_unit(text)
    try:
        node = _unquoted(measure.value)
    except Unreadable:
        plain = _WORDS.match(whole) or _DIGITS.match(whole)
        return Form(Kind.WORDS, words_of(whole)) if plain else Form(Kind.OPAQUE, whole)
    if measure.scale != 1:
        node = Node("mul", (node, number(measure.scale)))
    signs = [part for part in walk(node) if part.op == "pm"]
    if signs:
        both = tuple(Form(Kind.SCALAR, node=_with_signs(node, upper), unit=measure.unit) for upper in (True, False))
        return Form(Kind.LIST, ",", both)
    return Form(Kind.SCALAR, node=node, unit=measure.unit)


def _unquoted(text: str) -> Node:
    """The tree of a value; words in quotation marks before it (`"Area: "5`) are a label and go."""
    if text.startswith('"'):
        label, _, rest = text[1:].partition('"')
        if rest and len(label) > 1 and not label[0].isdigit():
            text = rest.lstrip(":= ")
        elif not rest and label[:1].isdigit():
            text = label
    return parse(text)


def _with_signs(node: Node, upper: bool) -> Node:
    """The tree with every ± as + (upper) or - and every ∓ the other way round."""
    args = tuple(_with_signs(arg, upper) for arg in node.args)
    if node.op != "pm":
        return node._replace(args=args)
    plus = upper == (node.value == "±")
    return Node("add", (args[0], args[1] if plus else Node("neg", (args[1],))))


def words_of(text: str) -> str:
    """Text for comparing words: lower case, no quotation marks, no punctuation at the ends, no article, single blanks."""
    words = re.sub(r"[\"'.,;:!?()\s-]+", " ", text).strip().lower()
    for article in ("the ", "a ", "an "):
        words = words.removeprefix(article)
    return SAME_WORDS.get(words, words)
