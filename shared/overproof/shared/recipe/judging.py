"""How completions are judged, when they agree, and which of them are trained on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from overproof.shared.recipe.part import MAX_SAMPLES, Part


class GradingOptions(Part):
    """How answers are judged."""

    seconds_per_answer: float = Field(2.0, gt=0, le=60)
    """Wall-clock budget for comparing one answer; a slower one is `timeout`, counted apart from `wrong`."""
    strict: bool = False
    """Both answers must be written as the same kind of thing with the same unit: no `x=5` for 5, `10%` for 0.1, `5 cm` for 5."""
    order_matters: bool = False
    """Whether `1, 2` differs from `2, 1`; sets in braces stay sets."""
    decimal_tolerance: float = Field(0.0, ge=0, le=0.1)
    """Largest relative difference at which a number written as a decimal is accepted; 0: it must be exact."""


class Grading(GradingOptions):
    """How answers are judged, and how much of it is looked at again."""

    audit: float = Field(0.0, ge=0, le=1)
    """Share of the verdicts that are compared with Math-Verify's own: what differs is the artifact `audit`. Changes no verdict."""

    @property
    def options(self) -> GradingOptions:
        """What a verdict depends on."""
        return GradingOptions(**self.model_dump(exclude={"audit"}))


class MajorityRule(Part):
    """When the completions of a problem agree clearly on an answer: all three must hold."""

    min_votes: int = Field(3, ge=2, le=MAX_SAMPLES)
    """Completions that give the answer: two that err alike are no sign."""
    min_share: float = Field(0.6, ge=0.5, le=1)
    """Their share of all completions of the problem, those without an answer included."""
    min_lead: int = Field(2, ge=1, le=MAX_SAMPLES)
    """More votes than the next answer has by at least this many; the gold answer is one of the others."""


PolicyName = Literal["all", "shortest", "shortest_k", "below_median", "below_median_global"]


class SelectionPolicy(Part):
    """Which correct completions become training rows."""

    policy: PolicyName = "shortest"
    """all; shortest (one per problem); shortest_k; below_median (of the problem's correct ones); below_median_global (of all correct ones)."""
    k: int = Field(2, ge=1, le=MAX_SAMPLES)
    """For shortest_k."""
    max_per_problem: int | None = Field(None, ge=1)
    """At most this many rows per problem, whatever the policy (the shortest first; for `all`, the first drawn)."""
    val_share: float = Field(0.05, ge=0, le=0.5)
    """Share of groups held out for validation loss."""
    max_tokens: int | None = Field(None, ge=1)
    """Leave out longer completions."""
    labels: Literal["gold", "majority"] = "gold"
    """gold: a completion is correct when it agrees with the gold answer. majority: with the answer that a clear majority (`majority`) of the
    problem's completions gives, where there is no gold answer that can be read or the majority contradicts it. For training rows only."""

    @property
    def label(self) -> str:
        """A short name, unique among a recipe's policies."""
        name = f"shortest_{self.k}" if self.policy == "shortest_k" else self.policy
        return name if self.labels == "gold" else f"{name}-majority"
