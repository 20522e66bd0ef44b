"""What counts as correct for training: agreeing with the gold answer, or with the completions' own clear majority.

The majority of several completions is right more often than one of them (self-consistency, Wang et al. 2022, arXiv
2203.11171), and wrong in its own way: an error that the teacher makes again and again is labelled as the truth.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from overproof.reporting.domain.votes import Standing, standing
from overproof.shared.recipe import MajorityRule
from overproof.shared.topology import Verdict


class Source(StrEnum):
    """Where a problem's label comes from."""

    GOLD = "gold"
    ADDED = "added"
    """The majority: there is no gold answer that can be read."""
    CHANGED = "changed"
    """The majority: it contradicts the gold answer."""
    LEFT = "left"
    """Neither: no completion counts as correct."""


SOURCE_OF = {
    Standing.AGREES: Source.GOLD,
    Standing.UNREADABLE: Source.ADDED,
    Standing.CONTRADICTS: Source.CHANGED,
    Standing.UNKNOWN: Source.LEFT,
}


def correct_by_gold(rows: pa.Table) -> pa.Table:
    """The rows whose verdict is `correct`."""
    return rows.filter(pc.equal(rows["verdict"], str(Verdict.CORRECT)))


class MajorityLabels:
    """The labels of some problems, out of their votes."""

    def __init__(self, votes: Iterable[Mapping[str, Any]], rule: MajorityRule) -> None:
        """`votes`: rows of VOTES."""
        self.counts: Counter[str] = Counter()
        self.made: list[dict[str, Any]] = []
        """The labels that are not gold answers: problem_id, source, why, gold, label, votes, completions."""
        self._agreeing: dict[str, frozenset[int]] = {}
        for vote in votes:
            source = SOURCE_OF[standing(vote, rule)]
            self.counts[source] += 1
            if source is Source.LEFT:
                self._agreeing[vote["problem_id"]] = frozenset()
            elif source is not Source.GOLD:
                self._agreeing[vote["problem_id"]] = frozenset(vote["samples"])
                kept = {name: vote[name] for name in ("problem_id", "source", "gold", "votes", "completions")}
                self.made.append(kept | {"why": str(source), "label": vote["answer"]})

    def correct(self, rows: pa.Table) -> pa.Table:
        """The rows that agree with their problem's label. Reads problem_id, sample, verdict."""
        names = ("problem_id", "sample", "verdict")
        columns = (rows[name].to_pylist() for name in names)
        agrees = [
            sample in self._agreeing[problem] if problem in self._agreeing else verdict == Verdict.CORRECT
            for problem, sample, verdict in zip(*columns, strict=True)
        ]
        return rows.filter(pa.array(agrees, pa.bool_()))
