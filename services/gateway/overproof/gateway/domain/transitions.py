"""Which of cancel, pause and resume make sense in which state of a run."""

from __future__ import annotations

from typing import Literal

from overproof.shared.errors import Conflict
from overproof.shared.recipe import Recipe
from overproof.shared.runs import RunState, Wanted

Action = Literal["cancel", "pause", "resume"]

FINAL = frozenset({RunState.SUCCEEDED, RunState.FAILED, RunState.CANCELLED})
WANTS: dict[Action, Wanted] = {"cancel": Wanted.CANCELLED, "pause": Wanted.PAUSED, "resume": Wanted.RUNNING}


def decide(action: Action, state: RunState, wanted: Wanted, budget_usd: float | None = None) -> Wanted:
    """What to want of the run from now on. Raises Conflict when the action makes no sense.

    Asking twice for the same is no error: a client that lost the first answer must be able to ask again.
    """
    if state is RunState.SUCCEEDED:
        raise Conflict(f"The run has succeeded; there is nothing to {action}.", "Submit a new run.")
    if action != "resume" and state in FINAL:
        raise Conflict(f"The run has {_ended(state)}; there is nothing to {action}.", "Resume it, or submit a new run.")
    if action == "pause" and wanted is Wanted.CANCELLED:
        raise Conflict("The run is being cancelled.", "Wait until it is cancelled, then resume it.")
    goes_on = state not in FINAL and state is not RunState.PAUSED and wanted is Wanted.RUNNING
    if action == "resume" and goes_on and budget_usd is None:
        raise Conflict(f"The run is {state} already; there is nothing to resume.", "Look at it with GET /v1/runs/{id}.")
    return WANTS[action]


def check_budget(recipe: Recipe, spent_usd: float | None, budget_usd: float | None) -> None:
    """Raises Conflict when the run would pause again at once, or when nobody counts what it spends."""
    if budget_usd is None:
        return
    if not recipe.is_priced:
        raise Conflict("No engine of the recipe has prices, so a budget would count nothing.", "Leave the budget out.")
    if spent_usd is not None and spent_usd >= budget_usd:
        raise Conflict(
            f"The run has spent ${spent_usd:,.2f}, and its budget is ${budget_usd:,.2f}.",
            f"Give a larger one: ?budget_usd={2 * spent_usd:.2f}, or `overproof resume ID --budget {2 * spent_usd:.2f}`.",
        )


def _ended(state: RunState) -> str:
    return "failed" if state is RunState.FAILED else "been cancelled"
