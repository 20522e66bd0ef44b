"""The audit: a share of the verdicts beside Math-Verify's own. What differs is a table to look at; no verdict changes."""

from __future__ import annotations

import time
import zlib
from collections import Counter
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import pyarrow as pa

from overproof.grading.grader import Grader
from overproof.grading.tasks import ROWS_PER_TABLE, check_version
from overproof.shared.specs import Audited, AuditSpec
from overproof.shared.tables import AUDIT, GRADES, rows_of, table_of
from overproof.shared.topology import Verdict
from overproof.shared.work import Work

MAX_OPINIONS = 10_000
"""Of pairs that come again: samples of one problem often agree."""


def audit(work: Work[AuditSpec], grader: Grader) -> None:
    """Grades → AUDIT, by completions and then in their order.

    The notes count what was looked at: `audited`, `disagree`, and `silent`, where Math-Verify could read nothing or was too slow.
    """
    check_version(work.spec.grader)
    counts = Counter[str](audited=0, disagree=0, silent=0)
    work.write(AUDIT, _tables(work, _Auditor(grader, work.spec.share, counts)))
    work.note(**counts)


class _Auditor:
    """Asks for the other opinion and counts."""

    def __init__(self, grader: Grader, share: float, counts: Counter[str]) -> None:
        self._opinion = lru_cache(maxsize=MAX_OPINIONS)(grader.second_opinion)
        self._share = share
        self._counts = counts

    def disagreement(self, row: dict[str, Any], label: str) -> dict[str, Any] | None:
        """A row of AUDIT from one of GRADES; None where there is nothing to look at."""
        if row["verdict"] not in {Verdict.CORRECT, Verdict.WRONG} or not self._is_drawn(row):
            return None
        started = time.perf_counter()
        opinion = self._opinion(row["extracted"], row["gold"])
        self._counts["audited"] += 1
        self._counts["silent"] += opinion is None
        if opinion is None or opinion is (row["verdict"] == Verdict.CORRECT):
            return None
        self._counts["disagree"] += 1
        other = Verdict.CORRECT if opinion else Verdict.WRONG
        named = {"completions": label, "other_verdict": str(other), "seconds": time.perf_counter() - started}
        return {name: row.get(name) for name in AUDIT.names} | named

    def _is_drawn(self, row: dict[str, Any]) -> bool:
        """The same rows in every run, whatever else is graded."""
        return zlib.crc32(f"{row['problem_id']}/{row['sample']}".encode()) < self._share * 2**32


def _tables(work: Work[AuditSpec], auditor: _Auditor) -> Iterator[pa.Table]:
    waiting: list[dict[str, Any]] = []
    for one in work.spec.audited:
        for row in _disagreements(work, one, auditor):
            waiting.append(row)
            if len(waiting) == ROWS_PER_TABLE:
                yield table_of(waiting, AUDIT)
                waiting = []
    yield table_of(waiting, AUDIT)


def _disagreements(work: Work[AuditSpec], one: Audited, auditor: _Auditor) -> Iterator[dict[str, Any]]:
    for row in rows_of(work.read(one.grades, GRADES)):
        work.check()
        if (found := auditor.disagreement(row, one.label)) is not None:
            yield found
