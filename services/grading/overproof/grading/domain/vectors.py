"""Vectors written with unit vectors, `2i+3j-k`, beside those written with their entries."""

from __future__ import annotations

from overproof.grading.domain.forms import Form, Kind
from overproof.grading.domain.numeric import same_value
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
