"""Normalised text to a form: what is split first, what stays together.

From loosest to tightest: what a declaration says of its letters (`k∈ℤ`, `for all real x`), lists (`,` `;` or, and), unions and
differences, relations, brackets with commas inside, and then single values with their units, words, ratios and the like.
"""

from __future__ import annotations

import re
from functools import lru_cache

from overproof.grading.domain.declarations import Declared, declared, residue, without_remark
from overproof.grading.domain.forms import (
    MATCHING,
    RELATIONS,
    Form,
    Kind,
    bracketed,
    split_signs,
    split_top,
    symbols_of,
    with_both_signs,
)
from overproof.grading.domain.leaves import compound, read_leaf, read_mark, words_of
from overproof.grading.domain.naming import assigned, by_name, is_name, names_of
from overproof.grading.domain.phrases import is_all_reals, is_empty_set, points_left_out
from overproof.grading.domain.regional import is_regional, same_regional
from overproof.grading.domain.sentences import denies, reply, statement
from overproof.grading.domain.tables import read_table
from overproof.grading.domain.tree import Node, symbols
from overproof.grading.domain.units import is_sentence
from overproof.grading.domain.vectors import read_scaled

MAX_ITEMS = 64
"""The longest list among the gold answers of MATH and OlympiadBench has 18 members; matching is quadratic."""

MAX_CACHED_CHARS = 200
"""Longer answers are read afresh each time: 10,000 trees of that length would fill the memory."""

MAX_NESTING = 6
"""A list of sets of tuples has three levels."""

_CHOICE = re.compile(r'^(?:\("?([A-J])"?\)|"\(([A-J])\)"|"?([A-J])"?[.):]) ?(?=[^\s.,;∨∧])(.+)$', re.DOTALL)
_FUNCTION_HEAD = re.compile(r"^([A-Za-z])\(([A-Za-z])\)$")
_LABEL = re.compile(r'^"? ?([A-Za-z][A-Za-z ]{2,}?) ?(?:: ?" ?|" ?: ?|: ?|" ?| )(?=[\d$(.-]|\\frac|\\sqrt)(.+)$')
_POINT = re.compile(r"^([ABD-Z]'?)(\([^()]*,.*\))$", re.DOTALL)
"""`A(4,5)`: a point with its name. `C(5,2)` is a binomial."""
_TWICE = re.compile(r"^([^:]*(?:[<>≤≥≠]|[a-z]{3})[^:]*): ?([(\[].*[)\]]|∅|ℝ)$", re.DOTALL)
"""`-1<x≤1:(-1,1]`: an inequality and behind a colon the same as an interval."""


def read(text: str, nesting: int = 0) -> Form:
    """The form of normalised text; `opaque` when the grammar does not cover it. Raises TooLarge for numbers past the limits."""
    return _read_cached(text, nesting) if len(text) <= MAX_CACHED_CHARS else _read(text, nesting)


def _read(text: str, nesting: int) -> Form:
    text = text.strip()
    if nesting > MAX_NESTING or not text:
        return Form(Kind.OPAQUE, text)
    for reader in _READERS:
        form = reader(text, nesting + 1)
        if form is not None:
            return form
    form = read_mark(text) or read_leaf(text)
    if form.kind in {Kind.OPAQUE, Kind.WORDS} and bracketed(text) == "()":
        return read(text[1:-1], nesting + 1)
    return form


_read_cached = lru_cache(maxsize=10_000)(_read)


def _read_phrase(text: str, nesting: int) -> Form | None:
    """Words that stand for a set, a reply with its reason (of a whole answer, not of a part), a sentence that states a value."""
    if text[0].isdigit() and text.isalnum():
        return None
    bare = words_of(text)
    if is_empty_set(text, bare):
        return Form(Kind.SET)
    if is_all_reals(text, bare):
        return Form(Kind.REALS)
    if (points := points_left_out(text)) is not None:
        return _reals_but(points, nesting)
    if nesting == 1 and (said := reply(text)) is not None:
        return Form(Kind.WORDS, said)
    if (stated := statement(text)) is not None:
        return Form(Kind.RELATION, "=", (Form(Kind.WORDS, words_of(stated.head)), read(stated.value, nesting)))
    return None


def _read_special(text: str, nesting: int) -> Form | None:
    """What is known by how it begins: a point, a choice, a table, an answer said twice, a sum of units."""
    if ":" in text and (match := _TWICE.match(text)):
        return _said_twice(match, text, nesting)
    if text[0].isdigit() and (sum_of_units := compound(text)) is not None:
        return sum_of_units
    if (match := _POINT.match(text)) and bracketed(match[2]) == "()":
        return Form(Kind.RELATION, "=", (Form(Kind.SCALAR, node=Node("sym", (), match[1])), read(match[2], nesting)))
    if (match := _CHOICE.match(text)) and not text.endswith(")(") and not denies(match[4]):
        return Form(Kind.CHOICE, match[1] or match[2] or match[3], (read(match[4].strip(), nesting),))
    return read_scaled(text, nesting, read) or (read_table(text, nesting, read) if "\\begin" in text else None)


def _said_twice(match: re.Match[str], text: str, nesting: int) -> Form:
    """The interval when the inequality, or words, before the colon do not contradict it."""
    first, second = read(match[1].strip(), nesting), read(match[2].strip(), nesting)
    agree = first.kind is Kind.WORDS or first == second or same_regional(first, second)
    return second if agree else Form(Kind.OPAQUE, text)


def _reals_but(points: str, nesting: int) -> Form | None:
    taken = read(points, nesting)
    items = taken.items if taken.kind in {Kind.LIST, Kind.SET} else (taken,)
    if any(item.node is None for item in items):
        return None
    return Form(Kind.DIFFERENCE, "", (Form(Kind.REALS), Form(Kind.SET, "", items)))


def _read_declared(text: str, nesting: int) -> Form | None:
    """`π/6+2kπ, k∈ℤ` and `2 (mod 5)`: the answer before the declaration, with what it declares."""
    if (answer := without_remark(text)) is not None:
        return read(answer, nesting)
    if (found := residue(text)) is not None:
        return Form(Kind.RESIDUE, found.modulus, (_bare(read(found.value, nesting)),))
    found_names = declared(text)
    if found_names is None:
        return None
    body = read(found_names.body, nesting)
    if body.kind in {Kind.WORDS, Kind.OPAQUE, Kind.CHOICE}:
        return None
    return Form(Kind.FAMILY, ",".join(found_names.names), (body,), unit=_domain(found_names, nesting))


def _domain(found: Declared, nesting: int) -> str:
    """What the names are; a condition as it is read, so that `k≥1` and `k \\geq 1` are one."""
    if not found.condition:
        return found.domain
    condition = read(found.condition, nesting)
    return f"where {condition.items}{condition.text}"


def _bare(form: Form) -> Form:
    return form.items[0] if form.kind is Kind.SET and len(form.items) == 1 else form


def _read_list(text: str, nesting: int) -> Form | None:
    pieces = split_signs(text, ",;∨∧")
    if len(pieces) < 2:
        return None
    found = [(piece, sign) for piece, sign in pieces if piece]
    if len(found) > MAX_ITEMS or not found:
        return Form(Kind.OPAQUE, text)
    if not pieces[-1][0] and pieces[-2][1] in "∨∧":
        return Form(Kind.WORDS, words_of(text))
    if len(found) == 1:
        return read(found[0][0], nesting)
    signs = {sign for _, sign in found[:-1]}
    if (date := read_mark(text)) is not None:
        return date
    items = _labelled([piece for piece, _ in found], nesting) or tuple(read(piece, nesting) for piece, _ in found)
    if all(item.kind is Kind.WORDS for item in items) and not signs - {","} and _is_prose(text):
        return Form(Kind.WORDS, words_of(text))
    return (
        _of_heads(items, "∨" in signs)
        or _under_one_head(items)
        or _under_a_condition(items)
        or Form(Kind.LIST, "∨" if "∨" in signs else "∧" if "∧" in signs else ",", _spread(items))
    )


def _labelled(pieces: list[str], nesting: int) -> tuple[Form, ...]:
    """`Tom: 5, Ann: 7` as values with names; () unless every piece has a label of its own."""
    matches = [_LABEL.match(piece) for piece in pieces]
    found = [(words_of(match[1]), match[2]) for match in matches if match and not is_sentence(match[1])]
    if len({label for label, _ in found}) < len(pieces):
        return ()
    return tuple(Form(Kind.RELATION, "=", (Form(Kind.WORDS, label), read(value, nesting))) for label, value in found)


def _is_prose(text: str) -> bool:
    return len(text.split()) > 6


def _spread(items: tuple[Form, ...]) -> tuple[Form, ...]:
    """The members of a list, with those that are lists themselves (`\\pm 6, \\pm 2`) laid out."""
    return tuple(part for item in items for part in (item.items if item.kind is Kind.LIST else (item,)))


def _of_heads(items: tuple[Form, ...], alternatives: bool) -> Form | None:
    """`x=1, x=2` as the list 1, 2; `x=1, y=2` as values with names; `x=1, y=2; x=3, y=4` as a list of those. None for others."""
    if not all(item.kind is Kind.RELATION and item.text == "=" and is_name(item.items[0]) for item in items):
        return None
    names = names_of(items)
    period = len(set(names))
    if period == 1:
        name = names[0] if items[0].items[0].node is not None else ""
        return Form(Kind.LIST, ",", tuple(item.items[1] for item in items), unit=name)
    if len(names) % period or any(set(names[at : at + period]) != set(names) for at in range(0, len(names), period)):
        return None
    groups = tuple(assigned(items[at : at + period]) for at in range(0, len(names), period))
    if len(groups) == 1:
        return None if alternatives else groups[0]  # `x=2 or y=1` is no point
    return Form(Kind.LIST, ",", groups)


def _under_one_head(items: tuple[Form, ...]) -> Form | None:
    """`x=1, 2, 3` as the list 1, 2, 3 of x, and `x≠1, -1` as one relation."""
    head, *values = items
    if head.kind is Kind.RELATION and by_name(head) and all(value.kind is Kind.TUPLE for value in values):
        return Form(Kind.LIST, ",", (head, *(head._replace(items=(head.items[0], value)) for value in values)))
    if head.kind is not Kind.RELATION or head.text not in {"=", "≠"} or not is_name(head.items[0]):
        return None
    if any(value.kind is not Kind.SCALAR for value in (head.items[1], *values)) or head.items[0].node is None:
        return None
    found = Form(Kind.LIST, ",", (head.items[1], *values), unit=names_of([head])[0])
    return found if head.text == "=" else head._replace(items=(head.items[0], found))


def _under_a_condition(items: tuple[Form, ...]) -> Form | None:
    """`2^k, k≥1`: an answer and what is asked of its letter."""
    body, *rest = items
    if len(rest) != 1 or rest[0].kind is not Kind.RELATION or not set(rest[0].text) <= set("<>≤≥≠"):
        return None
    names = frozenset().union(*(symbols(item.node) for item in rest[0].items if item.node is not None))
    said = body.items[-1] if body.kind is Kind.RELATION and body.text == "=" else body
    if len(names) != 1 or not names <= symbols_of(said) or is_regional(body):
        return None
    return Form(Kind.FAMILY, next(iter(names)), (body,), unit=f"where {rest[0].items}{rest[0].text}")


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
    if len(pieces) == 2 and not pieces[0][0] and pieces[0][1] in "<>≤≥≠":
        pieces[0] = (UNNAMED, pieces[0][1])
    if len(pieces) > 5 or not all(piece for piece, _ in pieces):
        return Form(Kind.OPAQUE, text)
    signs = "".join(sign for _, sign in pieces).replace("≡", "=")
    items = tuple(_side(piece, nesting) for piece, _ in pieces)
    if match := _FUNCTION_HEAD.match(pieces[0][0]):
        head = Node("call", (Node("sym", (), match[2]),), match[1])
        items = (Form(Kind.SCALAR, node=head), *items[1:])
    *names, value = items
    if (
        len(names) > 1
        and set(signs) == {"="}
        and all(is_name(name) and name.node for name in names)
        and not is_name(value)
    ):
        return assigned([Form(Kind.RELATION, "=", (name, value)) for name in names])
    return items[-1] if signs == "∈" else Form(Kind.RELATION, signs, items)


def _side(piece: str, nesting: int) -> Form:
    return _UNNAMED_FORM if piece == UNNAMED else read(piece, nesting)


def _read_bracketed(text: str, nesting: int) -> Form | None:
    brackets = bracketed(text)
    if brackets is None:
        return None
    inside = text[1:-1]
    if brackets == "❴❵" and (condition := re.match(r"^\w+ ?(?:∈ℝ)? ?[|:] ?(.+)$", inside)):
        return read(condition[1], nesting)
    if brackets == "❴❵" and (family := re.match(r"^([^|:]+)[|:]([^|:]*∈[ℤℕ][^|:]*)$", inside)):
        return read(f"{family[1]},{family[2]}", nesting)
    pieces = split_top(inside, ",;")
    if len(pieces) > MAX_ITEMS:
        return Form(Kind.OPAQUE, text)
    if brackets in {"[]", "()"} and "=" in inside and all("=" in piece for piece in pieces):
        return read(inside, nesting)
    if brackets == "❴❵":
        return Form(Kind.SET, "", _spread(tuple(read(piece, nesting) for piece in pieces)))
    if len(pieces) < 2:
        return None if MATCHING[brackets[0]] == brackets[1] else Form(Kind.OPAQUE, text)
    return with_both_signs("()" if brackets == "⟨⟩" else brackets, tuple(read(piece, nesting) for piece in pieces))


UNNAMED = "?"
"""Stands left of `≤ 5`, which says nothing of what it is of."""
_UNNAMED_FORM = Form(Kind.SCALAR, node=Node("sym", (), UNNAMED))

_READERS = (_read_phrase, _read_special, _read_declared, _read_list, _read_union, _read_relation, _read_bracketed)
