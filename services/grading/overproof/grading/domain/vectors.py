"""Vectors: written with unit vectors, `2i+3j-k`, with a factor before them, `\\frac12(1,2)`, or transposed, `(1,2)^T`."""

from __future__ import annotations

import re
from collections.abc import Callable

from overproof.grading.domain.forms import Form, Kind, bracketed
from overproof.grading.domain.numeric import same_value
from overproof.grading.domain.parser import parse
from overproof.grading.domain.tree import Node, number, substituted, symbols, walk

_UNITS = (Node("const", (), "i"), Node("sym", (), "j"), Node("sym", (), "k"))


def same_vector(entries: Form, written: Form) -> bool:
    """Whether a tuple of two or three is the vector that `2i+3j` writes; without a j in it that is a complex number."""
    node = written.node
    if node is None or len(entries.items) not in {2, 3} or any(item.node is None for item in entries.items):
        return False
    if _UNITS[1] not in walk(node) or symbols(node) - {"j", "k"} or (len(entries.items) == 2 and "k" in symbols(node)):
        return False
    marked = substituted(node, _UNITS[0], Node("sym", (), "#i"))
    names = (Node("sym", (), "#i"), *_UNITS[1:])
    terms = tuple(Node("mul", (item.node or number(0), name)) for item, name in zip(entries.items, names, strict=False))
    return entries.kind is Kind.TUPLE and bool(same_value(marked, Node("add", terms)))


_FACTOR = re.compile(r"^(-?(?:\d+|\d+/\d+|\(\d+/\d+\)|\\frac\{-?\d+\}\{\d+\}))\*?([(⟨].+,.+[)⟩])$", re.DOTALL)
_TRANSPOSED = re.compile(r"^([(\[].+,.+[)\]]|\\begin.+\})\^(?:T|\{\"?T\"?\}|\\top|\{\\top ?\})$", re.DOTALL)


def read_scaled(text: str, nesting: int, read: Callable[[str, int], Form]) -> Form | None:
    """A number before a tuple, as the tuple of the products; a transposed row as the column. None for everything else."""
    if (match := _FACTOR.match(text)) and bracketed(match[2]):
        entries = read(match[2], nesting)
        factor = parse(match[1])
        items = tuple(
            item._replace(node=Node("mul", (factor, item.node))) for item in entries.items if item.node is not None
        )
        return (
            entries._replace(items=items) if entries.kind is Kind.TUPLE and len(items) == len(entries.items) else None
        )
    if (match := _TRANSPOSED.match(text)) and (match[1][0] == "\\" or bracketed(match[1]) in {"()", "[]"}):
        row = read(match[1], nesting)
        return _transposed(row) if row.kind is Kind.MATRIX else row if row.kind is Kind.TUPLE else None
    return None


def _transposed(matrix: Form) -> Form:
    columns = zip(*(row.items for row in matrix.items), strict=False)
    return matrix._replace(items=tuple(matrix.items[0]._replace(items=tuple(column)) for column in columns))
