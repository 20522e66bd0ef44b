"""What an answer is made of: a number, words, a list, a set, a tuple or interval, a union, a relation, a matrix, ..."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from overproof.grading.domain.tree import Node, symbols

OPENING, CLOSING = "([{❴⟨⌊⌈", ")]}❵⟩⌋⌉"
MATCHING = dict(zip(OPENING, CLOSING, strict=True))
RELATIONS = "=<>≤≥≠∈≈≡"
_STEP = re.compile(r"[\[({❴⟨⌊⌈\])}❵⟩⌋⌉\"]|[^\[({❴⟨⌊⌈\])}❵⟩⌋⌉\"]+")


class Kind(StrEnum):
    """Kinds of forms; the docstring of `Form` says what each holds."""

    SCALAR = "scalar"
    WORDS = "words"
    LIST = "list"
    SET = "set"
    TUPLE = "tuple"
    UNION = "union"
    DIFFERENCE = "difference"
    RELATION = "relation"
    MATRIX = "matrix"
    BASED = "based"
    RATIO = "ratio"
    CHOICE = "choice"
    REALS = "reals"
    ASSIGNED = "assigned"
    FAMILY = "family"
    RESIDUE = "residue"
    CASES = "cases"
    OPAQUE = "opaque"


class Form(NamedTuple):
    """An answer, read.

    scalar: `node`, `unit`; words: `text` in lower case; list: `items`, `text` is the separator, `unit` the one name that all
    have (`x=1, x=2`); assigned: `items` are relations with different names; family: `items` the one form, `text` the names that
    are declared, `unit` their domain; residue: `items` the value or values, `text` the modulus; cases: tuples of a value and
    its condition; set, union, difference, ratio:
    `items`; tuple: `items`, `text` its two brackets, so `(]` is an interval; relation: `items` with `text` the signs between
    them; matrix: `items` are its rows (tuples); based: `text` the digits, `unit` the base; choice: `text` the letter, `items`
    what it labels; opaque: `text` that the grammar does not cover.
    """

    kind: Kind
    text: str = ""
    items: tuple[Form, ...] = ()
    node: Node | None = None
    unit: str = ""


def symbols_of(form: Form) -> frozenset[str]:
    """All symbols in it."""
    own: frozenset[str] = symbols(form.node) if form.node is not None else frozenset()
    return own.union(*(symbols_of(item) for item in form.items))


def split_top(text: str, separators: str) -> list[str]:
    """The pieces of text between separators that stand outside all brackets and quotation marks."""
    return [piece for piece, _ in split_signs(text, separators)]


def split_signs(text: str, separators: str) -> list[tuple[str, str]]:
    """As `split_top`, each piece with the separator that ends it ("" for the last). One pass."""
    if not any(sign in text for sign in separators):
        return [(text, "")]
    pieces: list[tuple[str, str]] = []
    depth, quoted, start, at = 0, False, 0, 0
    for match in _STEP.finditer(text):
        word = match[0]
        if word == '"':
            quoted = not quoted
        elif not quoted and word in OPENING:
            depth += 1
        elif not quoted and word in CLOSING:
            depth -= 1
        elif depth == 0 and not quoted:
            for offset, char in enumerate(word):
                if char in separators:
                    at = match.start() + offset
                    pieces.append((text[start:at].strip(), char))
                    start = at + 1
    pieces.append((text[start:].strip(), ""))
    return pieces


def bracketed(text: str) -> str | None:
    """The two brackets when one pair, perhaps of two kinds as in `(0,1]`, encloses the whole text; else None."""
    if len(text) < 2 or text[0] not in "([❴⟨" or text[-1] not in ")]❵⟩":
        return None
    depth = 0
    for index, char in enumerate(text):
        depth += (char in OPENING) - (char in CLOSING)
        if depth == 0 and index < len(text) - 1:
            return None
    return text[0] + text[-1] if depth == 0 else None


def with_both_signs(brackets: str, items: tuple[Form, ...]) -> Form:
    """A tuple; `(4±√2, 8)`, with one member that is two, is two tuples."""
    double = [at for at, item in enumerate(items) if item.kind is Kind.LIST]
    if len(double) != 1:
        return Form(Kind.TUPLE, brackets, items)
    at = double[0]
    both = (Form(Kind.TUPLE, brackets, (*items[:at], value, *items[at + 1 :])) for value in items[at].items)
    return Form(Kind.LIST, ",", tuple(both))
