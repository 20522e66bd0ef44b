"""An uploaded data set, read once, row by row: can it be used, and if not, which lines must be mended?

Memory: one row, and 24 bytes per row for finding problems that appear with two answers.
"""

from __future__ import annotations

import hashlib
import unicodedata
from array import array
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from overproof.gateway.domain.columns import Table, missing_columns
from overproof.gateway.domain.field_errors import MAX_ERRORS, FieldError
from overproof.shared.columns import pick
from overproof.shared.errors import DatasetError, TooLarge
from overproof.shared.formats import Row

COLUMNS_LOOKED_AT = 1000
"""Rows that may bring new column names (JSONL needs no header)."""
MAX_COLUMNS = 256
MAX_CELL_CHARS = 2_000_000


class Checked(NamedTuple):
    """What was found."""

    rows: int
    columns: tuple[str, ...]
    errors: list[FieldError]
    """By line and field, at most MAX_ERRORS."""
    n_errors: int


class Limits(NamedTuple):
    """How much one data set may hold."""

    rows: int
    chars: int


class _Check:
    def __init__(self, table: Table, columns: Mapping[str, str], limits: Limits) -> None:
        self.table, self.columns, self.limits = table, columns, limits
        self.rows = self.chars = self.n_errors = 0
        self.names: dict[str, None] = {}
        self.errors: list[FieldError] = []
        self.answers = _Answers()

    def add(self, row: Row) -> None:
        self.rows += 1
        self.chars += _chars(row.values)
        if self.rows > self.limits.rows:
            raise TooLarge(f"The data set has more than {self.limits.rows} rows.", "Split it into several data sets.")
        if self.chars > self.limits.chars:
            raise TooLarge(
                f"The data set unfolds to more than {self.limits.chars} characters.", "Split it into several data sets."
            )
        if self.rows <= COLUMNS_LOOKED_AT:
            self.names.update(dict.fromkeys(row.values))
        for error in self._row_errors(row):
            self.n_errors += 1
            if len(self.errors) < MAX_ERRORS:
                self.errors.append(error)

    def _row_errors(self, row: Row) -> list[FieldError]:
        if len(row.values) > MAX_COLUMNS:
            return [FieldError(f"line {row.line}", f"It has more than {MAX_COLUMNS} columns.", "Leave some out.")]
        if self.table not in ("problems", "questions"):
            return self._empty(row, "text" if self.table == "completions" else None)
        problem = pick(row.values, "problem", self.columns)
        answer = pick(row.values, "answer", self.columns)
        if not isinstance(problem, str) or not problem.strip():
            return [FieldError(f"line {row.line}, problem", "It is missing or not text.", "Fill it in.")]
        if answer is None or answer == "" or answer == []:
            solution = pick(row.values, "solution", self.columns)
            if self.table == "problems" and not (isinstance(solution, str) and "\\boxed{" in solution):
                return [FieldError(f"line {row.line}, answer", "It is missing.", "Fill it in, or leave the row out.")]
            return []
        self.answers.add(row.line, problem, answer)
        return []

    def _empty(self, row: Row, name: str | None) -> list[FieldError]:
        if name is None or isinstance(pick(row.values, name, self.columns), str):
            return []
        return [FieldError(f"line {row.line}, {name}", "It is missing or not text.", "Fill it in.")]

    def checked(self) -> Checked:
        if not self.rows:
            raise DatasetError("The data set has no rows.", "Upload a file with at least one.")
        missing = missing_columns(self.table, self.names, self.columns)
        if missing:  # every row lacks it; saying so once is enough
            return Checked(self.rows, tuple(self.names), missing, len(missing))
        conflicts = self.answers.conflicts()
        errors = (self.errors + conflicts)[:MAX_ERRORS]
        return Checked(self.rows, tuple(self.names), errors, self.n_errors + len(conflicts))


def check_dataset(rows: Iterable[Row], table: Table, columns: Mapping[str, str], limits: Limits) -> Checked:
    """Read all rows. Raises TooLarge at the row that goes over a limit, DatasetError for a file that cannot be read on."""
    check = _Check(table, columns, limits)
    for row in rows:
        check.add(row)
    return check.checked()


class _Answers:
    """Problems that appear with different answers, found by 64-bit hashes."""

    def __init__(self) -> None:
        self._problems, self._answers, self._lines = array("Q"), array("Q"), array("Q")

    def add(self, line: int, problem: str, answer: Any) -> None:
        self._problems.append(_hash(" ".join(unicodedata.normalize("NFKC", problem).casefold().split())))
        self._answers.append(_hash(" ".join(str(answer).split())))
        self._lines.append(line)

    def conflicts(self) -> list[FieldError]:
        """One error per problem with more than one answer, at most MAX_ERRORS, in order of their lines."""
        table = pa.table(
            {"problem": _column(self._problems), "answer": _column(self._answers), "line": _column(self._lines)}
        )
        groups = table.group_by("problem").aggregate([("answer", "min"), ("answer", "max"), ("line", "min")])
        torn = groups.filter(pc.not_equal(groups["answer_min"], groups["answer_max"])).sort_by("line_min")
        return [self._conflict(table, int(problem)) for problem in torn["problem"].to_pylist()[:MAX_ERRORS]]

    def _conflict(self, table: pa.Table, problem: int) -> FieldError:
        rows = table.filter(pc.equal(table["problem"], pa.scalar(problem, pa.uint64()))).to_pylist()
        first = rows[0]
        other = next(row for row in rows if row["answer"] != first["answer"])
        return FieldError(
            f"line {other['line']}, answer",
            f"The same problem has another answer at line {first['line']}.",
            "Keep one of them, or give the alternatives as a list in one row.",
        )


def _column(values: array[int]) -> pa.Array:
    return pa.Array.from_buffers(pa.uint64(), len(values), [None, pa.py_buffer(values)])


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _chars(values: Mapping[str, Any]) -> int:
    total = 0
    for name, value in values.items():
        size = len(value) if isinstance(value, str | bytes) else len(str(value)) if value is not None else 0
        if size > MAX_CELL_CHARS:
            raise TooLarge(
                f"A cell of column {name[:60]!r} is longer than {MAX_CELL_CHARS} characters.", "Leave the row out."
            )
        total += size
    return total
