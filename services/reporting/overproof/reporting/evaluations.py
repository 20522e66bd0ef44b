"""Graded completions of the test problems, read part by part for a comparison."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from overproof.reporting import reading
from overproof.reporting.domain.examples import Example
from overproof.reporting.domain.outcomes import Batch, Integers, Outcomes, Subject, batch_of
from overproof.shared.errors import DatasetError
from overproof.shared.specs import CompareSpec, Evaluation
from overproof.shared.tables import GRADES, PROBLEMS
from overproof.shared.work import Work

NUMBERS = ["problem_id", "sample", "n_tokens", "finish_reason"]
SHOWN = ["problem_id", "problem", "answer", "level", "type", "source"]
MAX_SHOWN_CHARS = 8_000
"""Of one text in `won_lost.json`; a longer one is cut, and says so."""


class Asked(NamedTuple):
    """The test problems: where each part starts, and what they are sliced by."""

    starts: list[int]
    """Position of the first problem of each part."""
    n: int
    level: pa.ChunkedArray
    kind: pa.ChunkedArray

    def part_of(self, position: int) -> int:
        """Which part a problem lies in."""
        return bisect_right(self.starts, position) - 1


def asked(work: Work[CompareSpec]) -> Asked:
    """Reads level and type of all test problems. Raises DatasetError when an evaluation is cut into other parts."""
    spec, columns = work.spec, ["level", "type"]
    others = [ref for evaluation in spec.evaluations for ref in (evaluation.completions, evaluation.grades)]
    parts = [
        reading.table(work.read(spec.problems, PROBLEMS, part=part, columns=columns), PROBLEMS, columns)
        for part in range(reading.n_parts(work, spec.problems, *others))
    ]
    starts = np.cumsum([0, *(part.num_rows for part in parts)]).tolist()
    whole = pa.concat_tables([reading.table([], PROBLEMS, columns), *parts])
    return Asked(starts[:-1], starts[-1], whole["level"], whole["type"])


def subject(work: Work[CompareSpec], evaluation: Evaluation, problems: Asked) -> Subject:
    """One evaluation as numbers; its texts are not read."""
    specs: set[str] = set()

    def batches() -> Iterator[Batch]:
        for part, start in enumerate(problems.starts):
            specs.update(_specs(work, evaluation.grades, part))
            ids = _ids(work, part)
            for rows in reading.graded(work, evaluation.completions, evaluation.grades, part, NUMBERS):
                yield _batch(rows, ids, start, evaluation.label)

    outcomes = Outcomes.of(problems.n, batches())
    return Subject(evaluation.label, evaluation.role, evaluation.round, evaluation.model, outcomes, frozenset(specs))


def _specs(work: Work[CompareSpec], grades: str, part: int) -> list[str]:
    """Distinct values of the column `spec`."""
    found: list[str] = (
        reading.table(work.read(grades, GRADES, part=part, columns=["spec"]), GRADES, ["spec"])["spec"]
        .unique()
        .to_pylist()
    )
    return found


def _ids(work: Work[CompareSpec], part: int) -> pa.ChunkedArray:
    columns = ["problem_id"]
    return reading.table(work.read(work.spec.problems, PROBLEMS, part=part, columns=columns), PROBLEMS, columns)[
        "problem_id"
    ]


def _batch(rows: pa.Table, ids: pa.ChunkedArray, start: int, label: str) -> Batch:
    found = pc.index_in(rows["problem_id"], value_set=ids)
    if found.null_count:
        raise DatasetError(
            f"{label} has completions of a problem that is not among the test problems.",
            "Evaluate it on the same test set.",
        )
    return batch_of(
        _integers(found) + start,
        _integers(rows["sample"]),
        _integers(rows["n_tokens"]),
        rows["verdict"].to_pylist(),
        rows["finish_reason"].to_pylist(),
    )


def _integers(column: pa.ChunkedArray) -> Integers:
    result: Integers = column.to_numpy().astype(np.int64)
    return result


# --- the rows that the report shows in full ---------------------------------------------------------------------------


def in_full(work: Work[CompareSpec], examples: list[Example], problems: Asked) -> list[dict[str, Any]]:
    """The examples with problem, texts, verdicts, reasons and token counts; reads only the parts that they lie in."""
    picks = [pick for example in examples for pick in example.picks]
    positions = {pick.problem for pick in picks}
    statements: dict[int, dict[str, Any]] = {}
    texts: dict[tuple[str, int, int], dict[str, Any]] = {}
    for part in sorted({problems.part_of(position) for position in positions}):
        rows = enumerate(_rows(work, part), problems.starts[part])
        here = {position: row for position, row in rows if position in positions}
        statements |= here
        ids = {row["problem_id"]: position for position, row in here.items()}
        for evaluation in work.spec.evaluations:
            wanted = {(pick.problem, pick.sample) for pick in picks if pick.label == evaluation.label}
            found = _completions(work, evaluation, part, ids)
            texts |= {(evaluation.label, *key): row for key, row in found if key in wanted}
    return [_shown(example, statements, texts) for example in examples]


def _rows(work: Work[CompareSpec], part: int) -> Iterator[dict[str, Any]]:
    for batch in work.read(work.spec.problems, PROBLEMS, part=part, columns=SHOWN):
        yield from batch.to_pylist()


def _completions(
    work: Work[CompareSpec], evaluation: Evaluation, part: int, positions: dict[str, int]
) -> Iterator[tuple[tuple[int, int], dict[str, Any]]]:
    """((position, sample), what is shown) of the completions of these problems."""
    names = ["problem_id", "sample", "extracted", "method", "reason"]
    grades = reading.table(work.read(evaluation.grades, GRADES, part=part, columns=names), GRADES, names)
    ids, offset = pa.array(list(positions), pa.string()), 0
    for rows in reading.graded(work, evaluation.completions, evaluation.grades, part, [*NUMBERS, "text"]):
        judged = grades.slice(offset, rows.num_rows)
        offset += rows.num_rows
        for name in names[2:]:
            rows = rows.append_column(name, judged[name])
        for row in rows.filter(pc.is_in(rows["problem_id"], value_set=ids)).to_pylist():
            yield (positions[row["problem_id"]], row["sample"]), row | {"text": _cut(row["text"])}


def _cut(text: str) -> str:
    """Beginning and end of a long text."""
    if len(text) <= MAX_SHOWN_CHARS:
        return text
    half = MAX_SHOWN_CHARS // 2
    return f"{text[:half]}\n\n[... {len(text) - 2 * half} characters left out ...]\n\n{text[-half:]}"


def _shown(
    example: Example, statements: dict[int, dict[str, Any]], texts: dict[tuple[str, int, int], dict[str, Any]]
) -> dict[str, Any]:
    completions = [texts[pick] | {"model": pick.label} for pick in example.picks]
    shared = statements[example.picks[0].problem] | {"outcome": example.outcome}
    return shared | {
        "completions": [{k: v for k, v in row.items() if k != "problem_id"} for row in completions],
        "problem": _cut(shared["problem"]),
    }
