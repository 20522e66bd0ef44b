"""Rows and columns: matrices, determinants, systems of equations and functions by cases.

The reader of the cells comes as an argument: cells hold whatever answers hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import permutations

from overproof.grading.domain.forms import RELATIONS, Form, Kind, split_signs
from overproof.grading.domain.tree import Node, number

Reader = Callable[[str, int], Form]

MAX_CELLS = 64
"""A matrix of eight rows and columns."""

MAX_DETERMINANT_ROWS = 4
"""Twenty-four products of four; larger ones are left to the slow path."""

_MATRIX = re.compile(
    r"^(?P<factor>[^\\]*(?:\\frac\{[^{}]*\}\{[^{}]*\})?)\*?\\begin\{(?P<kind>[pbBvV]?(?:small)?matrix|array)\}(?:\{[lcr|@ ]*\})?"
    r"(?P<rows>(?:(?!\\begin).)*)\\end\{(?P=kind)\}$",
    re.DOTALL,
)
_IN_BRACKETS = re.compile(r"^[\[(]\s*(\\begin\{([a-zA-Z]+)\}(?:(?!\\begin).)*\\end\{\2\})\s*[\])]$", re.DOTALL)
_SYSTEM = re.compile(
    r"^(?P<head>[^\\]*=)?(?:❴?\\begin\{(?P<kind>cases|array|aligned)\}|❴\\begin\{(?P<brace>array|aligned)\})(?:\{[lcr|@ ]*\})?"
    r"(?P<rows>(?:(?!\\begin).)*)\\end\{(?:cases|array|aligned)\}$",
    re.DOTALL,
)
_WHEN = re.compile(r'^,?\s*"?\s*(?:if|when|for|where|in case)?\s*"?\s*|\s*,$')


def read_table(text: str, nesting: int, read: Reader) -> Form | None:
    """The form of text that holds an environment; None when it is a relation with one, which is read elsewhere."""
    if inner := _IN_BRACKETS.match(text):
        text = inner[1]
    if ("❴\\begin" in text or "{cases}" in text) and (match := _SYSTEM.match(text)):
        return _read_system(match, nesting, read)
    if len(split_signs(text, RELATIONS)) > 1:
        return None
    match = _MATRIX.match(text)
    if match is None:
        return None if text.count("\\begin") > 1 else Form(Kind.OPAQUE, text)
    return _read_matrix(match, text, nesting, read)


def _cells(rows: str) -> list[list[str]]:
    written = [row.strip() for row in rows.replace("\\hline", "").split("\\\\")]
    return [[cell.strip() for cell in row.split("&")] for row in written if row]


def _read_matrix(match: re.Match[str], text: str, nesting: int, read: Reader) -> Form:
    cells = _cells(match["rows"])
    if sum(map(len, cells)) > MAX_CELLS:
        return Form(Kind.OPAQUE, text)
    factor = match["factor"].rstrip("*")
    if factor:
        cells = [[f"({factor})*({cell})" for cell in row] for row in cells]
    items = tuple(Form(Kind.TUPLE, "()", tuple(read(cell, nesting) for cell in row)) for row in cells)
    if match["kind"].startswith("v"):
        return _determinant(items) or Form(Kind.OPAQUE, text)
    return Form(Kind.MATRIX, "", items)


def _read_system(match: re.Match[str], nesting: int, read: Reader) -> Form | None:
    """Equations one below the other are a list; values with conditions beside them a function by cases."""
    cells = _cells(match["rows"])
    if not cells or sum(map(len, cells)) > MAX_CELLS:
        return None
    if all(len(row) == 1 for row in cells) and not match["head"]:
        return read(",".join(row[0].strip(",;") for row in cells), nesting)
    pieces = [row if len(row) == 2 else row[0].rpartition(",")[::2] for row in cells]
    if any(not value or not condition for value, condition in pieces):
        return None
    items = tuple(
        Form(Kind.TUPLE, "()", (read(value.strip(" ,"), nesting), read(_condition(condition), nesting)))
        for value, condition in pieces
    )
    function = Form(Kind.CASES, "", items)
    return Form(Kind.RELATION, "=", (read(match["head"][:-1], nesting), function)) if match["head"] else function


def _condition(text: str) -> str:
    return _WHEN.sub("", text)


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
