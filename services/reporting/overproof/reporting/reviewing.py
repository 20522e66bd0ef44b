"""Reads votes part by part, and the statements of the problems that are put on the review list."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from overproof.reporting import reading
from overproof.reporting.domain.votes import review_row
from overproof.shared.specs import ReviewSpec
from overproof.shared.tables import GOLD_REVIEW, PROBLEMS, VOTES, rows_of, table_of
from overproof.shared.work import Work


def review(work: Work[ReviewSpec]) -> None:
    """Votes of all rounds → GOLD_REVIEW: by part of the problems, then round, then problem."""
    work.write(GOLD_REVIEW, _tables(work))


def _tables(work: Work[ReviewSpec]) -> Iterator[pa.Table]:
    spec, listed = work.spec, {"contradicts": 0, "unreadable": 0}
    parts = reading.n_parts(work, spec.problems, *(ref for _, ref in spec.votes))
    for part in range(parts):
        rows = list(_rows(work, part))
        for row in rows:
            listed[str(row["why"])] += 1
        yield table_of(rows, GOLD_REVIEW)
        work.progress(done=part + 1, total=parts)
    work.note(**listed)


def _rows(work: Work[ReviewSpec], part: int) -> Iterator[dict[str, object]]:
    statements = work.read(work.spec.problems, PROBLEMS, part=part, columns=["problem_id", "problem"])
    problems = {row["problem_id"]: str(row["problem"]) for row in rows_of(statements)}
    for number, ref in work.spec.votes:
        for vote in rows_of(work.read(ref, VOTES, part=part)):
            row = review_row(vote, work.spec.rule, number, problems[vote["problem_id"]])
            if row is not None:
                yield row
