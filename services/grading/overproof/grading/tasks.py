"""The three shards that grading makes. Each reads, judges and writes batch by batch; nothing is held but one batch and the golds."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import prometheus_client
import pyarrow as pa

from overproof.grading.grader import GRADER_VERSION, Grade, Grader
from overproof.shared.errors import Conflict, DatasetError
from overproof.shared.records import FilePart
from overproof.shared.specs import AnswersSpec, CheckGoldSpec, GradeSpec, digest
from overproof.shared.tables import ANSWERS, COMPLETIONS, GOLD_CHECKS, GRADES, PROBLEMS, table_of
from overproof.shared.work import Work

VERDICTS = prometheus_client.Counter("overproof_verdicts_total", "Verdicts by role of the model.", ["role", "verdict"])

COMPLETION_COLUMNS = ["problem_id", "sample", "role", "text", "finish_reason", "spec"]
GOLD_COLUMNS = ["problem_id", "source", "answer", "alternatives"]


def grade(work: Work[GradeSpec], grader: Grader) -> None:
    """One shard of completions → its grades, row for row in the same order."""
    check_version(work.spec.grader)
    golds = _golds(work.read(work.spec.problems, PROBLEMS, part=work.shard, columns=GOLD_COLUMNS))
    batches = work.read(work.spec.completions, COMPLETIONS, part=work.shard, columns=COMPLETION_COLUMNS)
    likenesses = _Likenesses(work.spec)
    judged = (_judge(work, row, golds, likenesses, grader) for batch in batches for row in batch.to_pylist())
    work.write(GRADES, _graded(work, judged))


class _Likenesses(dict[str, str]):
    """The `spec` column of grades by that of completions: hashed once each."""

    def __init__(self, spec: GradeSpec) -> None:
        super().__init__()
        self._spec = spec

    def __missing__(self, of: str) -> str:
        return self.setdefault(of, self._spec.likeness(of))


def check(work: Work[CheckGoldSpec], grader: Grader) -> None:
    """One part of problems → whether each gold answer, with its alternatives, can be read."""
    check_version(work.spec.grader)
    batches = work.read(work.spec.problems, PROBLEMS, part=work.shard, columns=GOLD_COLUMNS)
    work.write(GOLD_CHECKS, _checked(work, batches, grader))


def _checked(work: Work[CheckGoldSpec], batches: Iterable[pa.RecordBatch], grader: Grader) -> Iterator[pa.Table]:
    """Checks in tables; how many cannot be read, and the first of them, go to the receipt."""
    unreadable, examples = 0, dict[str, str]()
    for batch in batches:
        rows = [_check_row(row, grader) for row in batch.to_pylist()]
        bad = [row for row in rows if not row["readable"]]
        unreadable += len(bad)
        examples |= {row["source"]: row["reason"] for row in bad[: MAX_EXAMPLES - len(examples)]}
        yield table_of(rows, GOLD_CHECKS)
    work.note(unreadable=unreadable, **({"examples": examples} if examples else {}))


def answers(work: Work[AnswersSpec], grader: Grader) -> None:
    """Answers that somebody sent → their grades; `problem_id` is the row's index."""
    check_version(work.spec.grader)
    part = FilePart(name="answers.parquet", rows=None, bytes=0, sha256=work.spec.sha256)
    batches = work.artifacts.read_part(work.ref, part, ANSWERS)
    work.write(
        GRADES, _graded(work, (_judge_answer(work, row, grader) for batch in batches for row in batch.to_pylist()))
    )


MAX_EXAMPLES = 3
"""Gold answers of one part that a run's error may name; the table of checks has them all."""
ROWS_PER_TABLE = 1_000
"""Grades that are written at once."""


def check_version(asked: str) -> None:
    """Raises Conflict when this worker is not the grader that a spec asks for."""
    if asked != GRADER_VERSION:
        raise Conflict(
            f"Grader {asked} is asked for, this worker has grader {GRADER_VERSION}.",
            "Run one version of all services, then resume the run.",
        )


def _golds(batches: Iterable[pa.RecordBatch]) -> dict[str, list[str]]:
    """problem_id → the gold answer and its alternatives."""
    return {row["problem_id"]: _all_golds(row) for batch in batches for row in batch.to_pylist()}


def _all_golds(row: dict[str, Any]) -> list[str]:
    return [row["answer"], *(row["alternatives"] or [])]


def _graded(work: Work[Any], rows: Iterable[dict[str, Any]]) -> Iterator[pa.Table]:
    """Tables of at most ROWS_PER_TABLE grades; counts and seconds go to the receipt and, live, to the display."""
    started, verdicts, waiting = time.perf_counter(), Counter[str](), list[dict[str, Any]]()
    for row in rows:
        verdicts[row["verdict"]] += 1
        waiting.append(row)
        if len(waiting) == ROWS_PER_TABLE:
            yield table_of(waiting, GRADES)
            waiting.clear()
            work.progress(verdicts=dict(verdicts))
    yield table_of(waiting, GRADES)
    work.note(verdicts=dict(verdicts), busy_seconds=time.perf_counter() - started)


def _judge(
    work: Work[GradeSpec], row: dict[str, Any], golds: dict[str, list[str]], likenesses: dict[str, str], grader: Grader
) -> dict[str, Any]:
    work.check()  # not only between batches: a thousand time-outs are half an hour
    gold = golds.get(row["problem_id"])
    if gold is None:
        raise DatasetError(
            f"Part {work.shard} of the completions speaks of problem {row['problem_id']}, part {work.shard} of the problems does not.",
            "Name the problems as they were when the completions were made, or give both as files.",
        )
    result = grader.grade(row["text"], gold, finish_reason=row["finish_reason"])
    VERDICTS.labels(row["role"], result.verdict).inc()
    return _row(row["problem_id"], row["sample"], result, likenesses[row["spec"]])


def _judge_answer(work: Work[AnswersSpec], row: dict[str, Any], grader: Grader) -> dict[str, Any]:
    work.check()
    result = grader.grade(row["text"], row["gold"], is_solution=row["is_solution"], finish_reason=row["finish_reason"])
    VERDICTS.labels("api", result.verdict).inc()
    return _row(str(row["index"]), 0, result, digest([work.spec.options.model_dump(mode="json"), work.spec.grader]))


def _row(problem_id: str, sample: int, result: Grade, likeness: str) -> dict[str, Any]:
    return {
        **result._asdict(),
        "verdict": str(result.verdict),
        "problem_id": problem_id,
        "sample": sample,
        "grader": GRADER_VERSION,
        "spec": likeness,
    }


def _check_row(row: dict[str, Any], grader: Grader) -> dict[str, Any]:
    unreadable = [
        f"{gold!r}: {found.reason}" for gold in _all_golds(row) if not (found := grader.check_gold(gold)).readable
    ]
    kept = {name: row[name] for name in ("problem_id", "source", "answer")}
    return kept | {"readable": not unreadable, "reason": "; ".join(unreadable)}
