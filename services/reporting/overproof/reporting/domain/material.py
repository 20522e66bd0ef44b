"""What a report is made from, as plain values, and the few look-ups that its parts share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from overproof.reporting.domain.regrades import Counts
from overproof.reporting.domain.savings import Round
from overproof.reporting.domain.spending import Spending
from overproof.reporting.domain.statistics import Estimate, no_data
from overproof.shared.recipe import Recipe
from overproof.shared.specs import Arm, ReportSpec
from overproof.shared.topology import Role

Row = dict[str, Any]


@dataclass(frozen=True)
class Lineage:
    """One artifact that the report rests on."""

    ref: str
    what: str
    rows: int | None
    """None: it is made of files, not of tables."""
    bytes: int
    sha256: str
    """Over the SHA-256 of its parts, in order: two artifacts with the same one have the same content."""
    version: str


@dataclass(frozen=True)
class ArmFacts:
    """One student: what it was trained on, and how that went."""

    arm: Arm
    selected: Row
    """Notes of the selection."""
    trained: Row
    """Notes of the training; empty when nothing was trained."""
    metrics: tuple[Row, ...]
    """Lines of `metrics.jsonl`."""
    card: str | None = None
    """The model card that training wrote, without results; None when there is none."""


@dataclass(frozen=True)
class Changes:
    """Completions that were graded again."""

    rows: list[Row]
    """Of CHANGES, the first ones."""
    n_rows: int
    verdicts: Counts
    """Also of completions whose verdict stayed."""
    graders: Row
    """Label → before, after → grader, options."""
    lost: list[str]
    """Labels of completions whose earlier grades can no longer be read."""


@dataclass(frozen=True)
class Audit:
    """Verdicts beside Math-Verify's."""

    rows: list[Row]
    """Of AUDIT, the first ones."""
    counts: Row
    """`audited`, `disagree`, `silent`."""


@dataclass(frozen=True)
class Material:
    """All inputs of a report."""

    spec: ReportSpec
    recipe: Recipe
    rows: list[Row]
    """Of COMPARISON."""
    facts: Row
    """`comparison.json`."""
    examples: list[Row]
    """`won_lost.json`."""
    arms: tuple[ArmFacts, ...]
    lineage: tuple[Lineage, ...]
    n_sampled: int
    """Training completions, over all passes and rounds."""
    review: list[Row] | None = None
    """Rows of GOLD_REVIEW; None when nobody voted."""
    changes: Changes | None = None
    """None when none of the completions had been graded otherwise before."""
    audit: Audit | None = None
    """None when nobody asked for it."""
    rounds: tuple[Round, ...] = ()
    """What adaptive sampling drew; empty when it was not adaptive."""
    spending: Spending | None = None
    """None when nobody asks money for completions."""

    @cached_property
    def labels(self) -> list[str]:
        """The models in the order of the comparison."""
        return list(self.facts["models"])

    @cached_property
    def overall(self) -> dict[str, Row]:
        """The rows of COMPARISON over all problems, by model."""
        return {row["model"]: row for row in self.rows if row["slice"] == "all"}

    @property
    def baseline(self) -> str:
        return str(self.facts["baseline"])

    @property
    def best(self) -> str | None:
        """The model that the report is about; None when there is nothing to compare."""
        return self.facts["best"] if self.facts["best"] in self.facts["models"] else None

    @cached_property
    def teacher(self) -> str | None:
        return next((label for label, model in self.facts["models"].items() if model["role"] == Role.TEACHER), None)

    @cached_property
    def students(self) -> list[str]:
        return [label for label, model in self.facts["models"].items() if model["role"] == Role.STUDENT]

    def contrast(self, first: str | None, second: str | None) -> Row | None:
        """The contrast of two models, when it was computed."""
        found = (one for one in self.facts["contrasts"] if (one["first"], one["second"]) == (first, second))
        return next(found, None)

    @property
    def main(self) -> Row | None:
        """The best model against the baseline."""
        return self.contrast(self.best, self.baseline)

    def sliced(self, name: str) -> Iterator[Row]:
        """The rows of COMPARISON of one kind of slice."""
        return (row for row in self.rows if row["slice"] == name)

    def policy_of(self, label: str) -> str:
        """The selection policy of a student; its label when it is not of this run."""
        return next((one.arm.policy for one in self.arms if one.arm.label == label), label)


def estimate(row: Row, name: str, n: int | None = None) -> Estimate:
    """Columns `name`, `name_low`, `name_high` of a row of COMPARISON."""
    values = [math.nan if row[column] is None else row[column] for column in (name, f"{name}_low", f"{name}_high")]
    return Estimate(values[0], values[1], values[2], row["n"] if n is None else n)


def from_json(value: Row) -> Estimate:
    """The other way round of `Estimate.json`."""
    if value["value"] is None:
        return no_data(value["n"])
    return Estimate(value["value"], value["low"], value["high"], value["n"])
