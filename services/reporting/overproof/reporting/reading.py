"""Artifacts as the domain wants them: the i-th parts of problems, completions and grades belong together."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from overproof.reporting.domain.labels import MajorityLabels, correct_by_gold
from overproof.reporting.domain.selection import LengthCounts, Portion
from overproof.shared.errors import DatasetError
from overproof.shared.specs import SelectSpec
from overproof.shared.tables import COMPLETIONS, GRADES, PROBLEMS, SELECTED, VOTES, rows_of
from overproof.shared.work import Work

ROWS_PER_GROUP = 4_096
"""Rows that are written at once; a part of a hundred problems alone would make tiny row groups."""

ASKED = ["problem_id", "group_id", "problem", "level", "type", "source"]


def table(batches: Iterable[pa.RecordBatch], schema: pa.Schema, columns: list[str]) -> pa.Table:
    """Batches of these columns as one table, also when there are none."""
    return pa.Table.from_batches(batches, schema=pa.schema([schema.field(name) for name in columns]))


def n_parts(work: Work[Any], problems: str, *others: str) -> int:
    """How many parts the problems have. Raises DatasetError when another table is cut differently."""
    parts = len(work.artifacts.parts(problems))
    for ref in others:
        if len(work.artifacts.parts(ref)) != parts:
            raise DatasetError(
                f"{ref} has {len(work.artifacts.parts(ref))} parts but {problems} has {parts}.",
                "Give completions and grades that were made for these problems.",
            )
    return parts


def graded(work: Work[Any], completions: str, grades: str, part: int, columns: list[str]) -> Iterator[pa.Table]:
    """Completions of one part with their verdicts, batch by batch.

    Yields `columns` of COMPLETIONS (which must hold problem_id and sample) and `verdict`.
    Raises DatasetError when the grades are not those of the completions, row by row.
    """
    names = ["problem_id", "sample", "verdict"]
    verdicts = table(work.read(grades, GRADES, part=part, columns=names), GRADES, names)
    position = 0
    for batch in work.read(completions, COMPLETIONS, part=part, columns=columns):
        rows = pa.Table.from_batches([batch])
        mine = verdicts.slice(position, rows.num_rows)
        _check_order(rows, mine, completions, grades, part)
        position += rows.num_rows
        yield rows.append_column("verdict", mine["verdict"])
    if position != verdicts.num_rows:
        raise _misfit(completions, grades, part)


def _check_order(rows: pa.Table, verdicts: pa.Table, completions: str, grades: str, part: int) -> None:
    fits = rows.num_rows == verdicts.num_rows and all(
        rows[name].combine_chunks().equals(verdicts[name].combine_chunks()) for name in ("problem_id", "sample")
    )
    if not fits:
        raise _misfit(completions, grades, part)


def _misfit(completions: str, grades: str, part: int) -> DatasetError:
    return DatasetError(
        f"The rows of {grades} are not those of {completions} (part {part}).", "Grade these completions again."
    )


def labels(work: Work[SelectSpec], part: int) -> MajorityLabels | None:
    """The labels of one part's problems; None where the gold answers are the labels."""
    spec = work.spec
    if spec.votes is None or spec.rule is None:
        return None
    return MajorityLabels(rows_of(work.read(spec.votes, VOTES, part=part)), spec.rule)


def portions(work: Work[SelectSpec], made: LabelsMade) -> Iterator[Portion]:
    """Each part of the problems with its correct completions of all passes; labels other than gold answers go to `made`."""
    spec, columns = work.spec, ["problem_id", "sample", "text", "n_tokens"]
    total = n_parts(work, spec.problems, *spec.completions, *spec.grades, *((spec.votes,) if spec.votes else ()))
    for part in range(total):
        problems = table(work.read(spec.problems, PROBLEMS, part=part, columns=ASKED), PROBLEMS, ASKED)
        n_completions, correct, labelled = 0, [], labels(work, part)
        made.add(labelled)
        for completions, grades in zip(spec.completions, spec.grades, strict=True):
            for rows in graded(work, completions, grades, part, columns):
                n_completions += rows.num_rows
                correct.append(correct_only(rows, labelled).drop_columns("verdict"))
        empty = table([], COMPLETIONS, columns)
        yield Portion(problems, pa.concat_tables([empty, *correct]), n_completions)
        work.progress(done=part + 1, total=total)


def correct_only(rows: pa.Table, labelled: MajorityLabels | None) -> pa.Table:
    """The rows that agree with their problem's label. Reads problem_id, sample, verdict."""
    return correct_by_gold(rows) if labelled is None else labelled.correct(rows)


class LabelsMade:
    """The labels of all parts that are not gold answers."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.rows: list[dict[str, Any]] = []

    def add(self, labelled: MajorityLabels | None) -> None:
        """Take those of one part."""
        if labelled is not None:
            self.counts += labelled.counts
            self.rows += labelled.made


def median_of_correct(work: Work[SelectSpec]) -> float:
    """Median tokens of all correct completions within the policy's `max_tokens`; reads no text."""
    spec, counts = work.spec, LengthCounts(work.spec.policy.max_tokens)
    for part in range(n_parts(work, spec.problems, *spec.completions, *spec.grades)):
        labelled = labels(work, part)
        for completions, grades in zip(spec.completions, spec.grades, strict=True):
            for rows in graded(work, completions, grades, part, ["problem_id", "sample", "n_tokens"]):
                counts.add(correct_only(rows, labelled)["n_tokens"].to_numpy().astype(np.int64))
    return counts.median()


def groups(work: Work[Any], tables: Iterable[str]) -> pa.Array:
    """The distinct group ids of some problem tables."""
    found = [
        table(work.read(ref, PROBLEMS, columns=["group_id"]), PROBLEMS, ["group_id"])["group_id"] for ref in tables
    ]
    chunks = [chunk for column in found for chunk in column.chunks]
    return pa.chunked_array(chunks, pa.string()).unique()


def merged(tables: Iterable[pa.Table], rows: int = ROWS_PER_GROUP) -> Iterator[pa.Table]:
    """The same rows in tables of at least `rows` rows, the last one apart."""
    waiting: list[pa.Table] = []
    for one in tables:
        waiting.append(one)
        if sum(table.num_rows for table in waiting) >= rows:
            yield pa.concat_tables(waiting)
            waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def write_selected(work: Work[SelectSpec], parts: Iterable[tuple[int, Iterator[pa.Table]]]) -> None:
    """Stream the selected rows into their parts."""
    for number, tables in parts:
        work.write(SELECTED, merged(tables), suffix=f"-{number:04d}")


def write_json(work: Work[Any], name: str, value: object) -> None:
    """One JSON file of the artifact, byte for byte the same for the same value."""
    write_bytes(work, name, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode())


def write_bytes(work: Work[Any], name: str, content: bytes) -> None:
    """One file of the artifact."""
    temporary = work.artifacts.files.temporary(work.artifacts.folder(work.ref))
    try:
        temporary.write_bytes(content)
        work.write_file(temporary, name)
    finally:
        temporary.unlink(missing_ok=True)
