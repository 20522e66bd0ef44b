"""One artifact of a run, and the plan that holds them all."""

from __future__ import annotations

from typing import NamedTuple

from overproof.shared.recipe import EngineOptions
from overproof.shared.specs import (
    PrepareSpec,
    SampleSpec,
    Spec,
)
from overproof.shared.topology import TASK_OF_STAGE, Stage

SCHEMA_OF_STAGE = {
    Stage.CHECK_GOLD: "gold_checks",
    Stage.SAMPLE: "completions",
    Stage.GRADE: "grades",
    Stage.VOTE: "votes",
    Stage.REVIEW: "gold_review",
    Stage.CHANGES: "changes",
    Stage.AUDIT: "audit",
    Stage.SELECT: "selected",
    Stage.COMPARE: "comparison",
}


class Node(NamedTuple):
    """One artifact of a run."""

    label: str
    """For people; unique in the run."""
    spec: Spec
    after: tuple[str, ...] = ()
    """References that must be complete before the first shard."""
    along: tuple[str, ...] = ()
    """References whose shard i must be there before our shard i."""
    shards_of: str | None = None
    """One shard per part of this artifact; None: one shard."""

    @property
    def ref(self) -> str:
        return self.spec.ref

    @property
    def queue(self) -> str:
        return TASK_OF_STAGE[self.spec.stage].partition(".")[0]

    @property
    def schema_name(self) -> str | None:
        return self.spec.table if isinstance(self.spec, PrepareSpec) else SCHEMA_OF_STAGE.get(self.spec.stage)

    @property
    def model(self) -> str | None:
        """What an inference worker must have loaded."""
        return self.spec.model.model_dump_json() if isinstance(self.spec, SampleSpec) else None

    @property
    def engine(self) -> EngineOptions | None:
        """What samples, with the prices of the run's own recipe."""
        return self.spec.engine if isinstance(self.spec, SampleSpec) else None

    @property
    def is_paid(self) -> bool:
        """Whether somebody asks money for its shards."""
        return self.engine is not None and self.engine.cost_usd(1, 1) > 0


class Plan(NamedTuple):
    """All artifacts of a run, and the names that people know them by."""

    nodes: tuple[Node, ...]
    names: dict[str, str]
    """`comparison` → reference."""
