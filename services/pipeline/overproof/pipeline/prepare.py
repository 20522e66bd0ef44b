"""One data set → one table of ours, in parts: read line by line, checked, and cut where the shards will be cut."""

from __future__ import annotations

import hashlib
import itertools
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pyarrow as pa

from overproof.pipeline.domain.rows import completion_row, problem_row, selected_row
from overproof.pipeline.domain.statements import problem_id
from overproof.shared.columns import pick
from overproof.shared.errors import DatasetError
from overproof.shared.formats import Row
from overproof.shared.specs import PrepareSpec, digest
from overproof.shared.tables import COMPLETIONS, GRADES, PROBLEMS, SELECTED, table_of
from overproof.shared.topology import Verdict
from overproof.shared.work import Work

MAX_ERRORS_SHOWN = 10
"""Bad lines named in one message."""
ROWS_PER_TABLE = 1_000
"""Rows turned into one arrow table while a part is written."""


def prepare(work: Work[PrepareSpec], rows: Iterator[Row]) -> None:
    """Write all parts of the table that the spec asks for. Raises DatasetError that names up to ten bad lines."""
    makers: dict[str, Callable[[Work[PrepareSpec], Iterator[Row]], None]] = {
        "problems": _problems,
        "selected": _selected,
        "completions": _completions,
        "grades": _grades,
    }
    makers[work.spec.table](work, rows)


def _problems(work: Work[PrepareSpec], rows: Iterator[Row]) -> None:
    spec = work.spec
    unique = _Unique(spec.source.name)
    columns = {"group": "group", **spec.source.columns} if spec.source.generator else spec.source.columns
    needs_answer = spec.missing_answers == "error"

    def convert(row: Row) -> dict[str, Any]:
        return problem_row(row.values, columns, f"{spec.source.name}:{row.line}", needs_answer=needs_answer)

    read = _checked(work, rows, convert)
    distinct = (values for line, values in read if unique.is_new(line, values))
    excluded = _groups(work, spec.exclude) if spec.exclude else frozenset()
    overlap = _Overlap(excluded, spec.on_overlap)
    _write_parts(work, PROBLEMS, (values for values in distinct if overlap.allows(values)))
    overlap.raise_if_refused()
    work.note(duplicates=unique.duplicates, dropped_overlap=overlap.dropped)


def _selected(work: Work[PrepareSpec], rows: Iterator[Row]) -> None:
    source = work.spec.source
    read = _checked(work, rows, lambda row: selected_row(row.values, source.columns, f"{source.name}:{row.line}"))
    _write_parts(work, SELECTED, (values for _, values in read))


def _completions(work: Work[PrepareSpec], rows: Iterator[Row]) -> None:
    spec = digest({"given": work.spec.source.model_dump(mode="json"), "fingerprint": work.spec.fingerprint})
    columns = work.spec.source.columns
    seen: dict[str, int] = {}

    def convert(row: Row) -> dict[str, Any]:
        owner = _owner_of(row, columns)
        seen[owner] = seen.get(owner, -1) + 1
        return {"problem_id": owner, **completion_row(row.values, columns, seen[owner], spec)}

    _aligned(work, COMPLETIONS, _checked(work, rows, convert))


def _grades(work: Work[PrepareSpec], rows: Iterator[Row]) -> None:
    columns = work.spec.source.columns
    seen: dict[str, int] = {}

    def convert(row: Row) -> dict[str, Any]:
        owner = _owner_of(row, columns)
        seen[owner] = seen.get(owner, -1) + 1
        return {"problem_id": owner, "sample": seen[owner], **_grade(row.values)}

    _aligned(work, GRADES, _checked(work, rows, convert))


def _grade(values: dict[str, Any]) -> dict[str, Any]:
    verdict = values.get("verdict") or (Verdict.CORRECT if values.get("correct") else Verdict.WRONG)
    if verdict not in set(Verdict):
        raise DatasetError(f"verdict {str(verdict)[:20]!r} is unknown.", f"Use one of {', '.join(Verdict)}.")
    texts = {name: str(values.get(name) or "") for name in ("gold", "method", "reason", "grader", "spec")}
    return {
        **texts,
        "verdict": str(verdict),
        "extracted": values.get("extracted"),
        "seconds": float(values.get("seconds") or 0),
    }


def _owner_of(row: Row, columns: dict[str, str]) -> str:
    given = row.values.get("problem_id")
    statement = pick(row.values, "problem", columns)
    if given or isinstance(statement, str):
        return str(given or problem_id(str(statement)))
    raise DatasetError("The line says neither problem_id nor problem.", "Add one, so that the row finds its problem.")


# --- reading -------------------------------------------------------------------------------------------------------


def _checked(
    work: Work[PrepareSpec], rows: Iterator[Row], convert: Callable[[Row], dict[str, Any]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, our row); goes on after a bad line to name several, and raises before the last row is given."""
    bad: list[str] = []
    n_rows = 0
    for row in rows:
        n_rows += 1
        if n_rows % ROWS_PER_TABLE == 0:
            work.check()
        try:
            values = convert(row)
        except DatasetError as error:
            bad.append(f"line {row.line}: {error}")
            if len(bad) >= MAX_ERRORS_SHOWN:
                break
            continue
        if not bad:
            yield row.line, values
    if bad:
        raise DatasetError(
            f"{work.spec.source.name} has rows that cannot be used: " + " ".join(bad),
            "Mend these lines, or leave them out.",
        )
    if not n_rows:
        raise DatasetError(f"{work.spec.source.name} has no rows.", "Check the file, the split and the filter.")


class _Unique:
    """Keeps the first of equal problems; two answers for one problem are an error."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.duplicates = 0
        self._answers: dict[bytes, bytes] = {}

    def is_new(self, line: int, values: dict[str, Any]) -> bool:
        key = bytes.fromhex(values["problem_id"])
        answer = hashlib.blake2b(values["answer"].encode(), digest_size=8).digest()
        before = self._answers.get(key)
        if before is None:
            self._answers[key] = answer
            return True
        if before != answer:
            raise DatasetError(
                f"{self.name} line {line}: this problem stands there before, with another answer than {values['answer'][:80]!r}.",
                "Keep one of the two.",
            )
        self.duplicates += 1
        return False


class _Overlap:
    """Training problems that share a group with a test problem: refused, or dropped and counted."""

    def __init__(self, excluded: frozenset[str], policy: str) -> None:
        self.dropped = 0
        self._excluded = excluded
        self._policy = policy
        self._sources: list[str] = []

    def allows(self, values: dict[str, Any]) -> bool:
        if values["group_id"] not in self._excluded:
            return True
        self.dropped += 1
        if len(self._sources) < MAX_ERRORS_SHOWN:
            self._sources.append(str(values["source"]))
        return False

    def raise_if_refused(self) -> None:
        if self.dropped and self._policy == "error":
            raise DatasetError(
                f"{self.dropped} training problems are also in the test set (or nearly): {', '.join(self._sources)}.",
                "Take them out, or set data.on_overlap: drop.",
            )


def _groups(work: Work[PrepareSpec], ref: str) -> frozenset[str]:
    batches = work.read(ref, PROBLEMS, columns=["group_id"])
    return frozenset(group for batch in batches for group in batch.column(0).to_pylist())


# --- writing -------------------------------------------------------------------------------------------------------


def _write_parts(work: Work[PrepareSpec], schema: pa.Schema, rows: Iterable[dict[str, Any]]) -> None:
    """Parts of `rows_per_part` rows."""
    stream = iter(rows)
    for number in itertools.count():
        part = list(itertools.islice(stream, work.spec.rows_per_part))
        if not part:
            return
        work.write(schema, _tables(part, schema), suffix=f"-{number:06d}")
        work.progress(rows=number * work.spec.rows_per_part + len(part))


def _tables(rows: Iterable[dict[str, Any]], schema: pa.Schema) -> Iterator[pa.Table]:
    for chunk in _batched(rows):
        yield table_of(chunk, schema)


def _batched(rows: Iterable[dict[str, Any]]) -> Iterator[tuple[dict[str, Any], ...]]:
    stream = iter(rows)
    while chunk := tuple(itertools.islice(stream, ROWS_PER_TABLE)):
        yield chunk


def _aligned(work: Work[PrepareSpec], schema: pa.Schema, rows: Iterator[tuple[int, dict[str, Any]]]) -> None:
    """Rows cut like the parts of `spec.problems`, in its order; sorted on disk, so that any number fits."""
    problems = work.spec.problems
    if problems is None:
        raise DatasetError("Given completions need their problems.", "Name data.train.")
    with tempfile.TemporaryDirectory() as folder, sqlite3.connect(f"{folder}/rows.db") as base:
        base.execute("PRAGMA journal_mode = OFF")
        base.execute("CREATE TABLE owners (problem_id TEXT PRIMARY KEY, place INTEGER) WITHOUT ROWID")
        base.execute("CREATE TABLE rows (place INTEGER, line INTEGER, row TEXT)")
        sizes = _load_owners(work, base, problems)
        strangers = _load_rows(base, rows)
        base.execute("CREATE INDEX by_place ON rows (place, line)")
        start = 0
        for number, size in enumerate(sizes):
            found = base.execute(
                "SELECT row FROM rows WHERE place >= ? AND place < ? ORDER BY place, line", (start, start + size)
            )
            work.write(schema, _tables((json.loads(text) for (text,) in found), schema), suffix=f"-{number:06d}")
            start += size
    work.note(rows_without_problem=strangers)


def _load_owners(work: Work[PrepareSpec], base: sqlite3.Connection, problems: str) -> list[int]:
    """Each problem's place in the table; returns the number of rows of each part."""
    sizes, place = [], 0
    for index, part in enumerate(work.artifacts.parts(problems)):
        for batch in work.read(problems, PROBLEMS, part=index, columns=["problem_id"]):
            ids = batch.column(0).to_pylist()
            base.executemany("INSERT INTO owners VALUES (?, ?)", [(one, place + i) for i, one in enumerate(ids)])
            place += len(ids)
        sizes.append(part.rows or 0)
    return sizes


def _load_rows(base: sqlite3.Connection, rows: Iterator[tuple[int, dict[str, Any]]]) -> int:
    """Store the rows with their problem's place; returns how many belong to no problem."""
    strangers = 0
    for line, values in rows:
        place = base.execute("SELECT place FROM owners WHERE problem_id = ?", (values["problem_id"],)).fetchone()
        if place is None:
            strangers += 1
            continue
        base.execute("INSERT INTO rows VALUES (?, ?, ?)", (place[0], line, json.dumps(values)))
    return strangers
