"""What a run has spent on completions of servers, and how many more it may ask for.

Receipts note tokens by the run that paid (`spent`); dollars are those tokens × the prices of this run's recipe. What an
earlier run had made costs nothing now. Derived from storage alone, so a fresh pipeline comes to the same sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from overproof.pipeline.domain.decide import View
from overproof.pipeline.domain.nodes import Node
from overproof.shared.runs import RunError

FIRST_SHARDS = 4
"""Paid shards under way at once while none is finished and nobody knows what one costs."""


class Ledger(NamedTuple):
    """US dollars of one run."""

    spent_usd: float
    """On shards that are published."""
    budget_usd: float | None
    shard_usd: float | None
    """Mean over the published shards of the dearest stage; None: none is finished."""

    @property
    def is_exhausted(self) -> bool:
        """Whether no further shard may be asked for."""
        return self.budget_usd is not None and self.spent_usd >= self.budget_usd

    @property
    def room(self) -> int | None:
        """Paid shards that may be under way: as many as the rest of the budget pays for, at least one; None: any number."""
        if self.budget_usd is None:
            return None
        if not self.shard_usd:
            return FIRST_SHARDS
        return max(1, int((self.budget_usd - self.spent_usd) / self.shard_usd))


def spent_usd(node: Node, notes: Mapping[str, Any], run_id: str) -> float | None:
    """What the published shards of one artifact cost this run; None: nobody asks money for it."""
    if not node.is_paid:
        return None
    used = notes.get("spent", {}).get(run_id, {})
    return node.engine.cost_usd(used.get("prompt_tokens", 0), used.get("tokens", 0)) if node.engine else None


def ledger(
    nodes: Iterable[Node], notes: Mapping[str, Mapping[str, Any]], run_id: str, budget_usd: float | None
) -> Ledger:
    """The sums over a run. `notes`: of the published shards, by reference."""
    total, dearest = 0.0, None
    for node in nodes:
        usd = spent_usd(node, notes[node.ref], run_id)
        shards = notes[node.ref].get("spent", {}).get(run_id, {}).get("shards", 0)
        total += usd or 0.0
        if usd and shards:
            dearest = max(dearest or 0.0, usd / shards)
    return Ledger(total, budget_usd, dearest)


def exhausted(nodes: Iterable[Node], views: Mapping[str, View], sums: Ledger, run_id: str) -> RunError | None:
    """Why the run pauses: the budget is spent and there is more to pay for."""
    missing = next((node for node in nodes if node.is_paid and not views[node.ref].complete), None)
    if missing is None or not sums.is_exhausted:
        return None
    return RunError(
        stage=missing.label,
        kind="BudgetReached",
        message=f"The run has spent ${sums.spent_usd:,.2f} of its budget of ${sums.budget_usd or 0:,.2f}.",
        remedy=f"Raise it and go on: overproof resume {run_id} --budget {2 * (sums.budget_usd or 0):g}",
    )
