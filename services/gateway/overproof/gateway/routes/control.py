"""Runs: cancel, pause, resume."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from overproof.gateway.context import Context, Ctx
from overproof.gateway.domain.transitions import Action, check_budget, decide
from overproof.gateway.guard import Principal
from overproof.gateway.views import RunSummary, summary
from overproof.shared.runs import RunState, RunStatus, StageState, Wanted

router = APIRouter(tags=["runs"])


@router.post("/v1/runs/{run_id}/cancel", operation_id="cancelRun", summary="Cancel a run", status_code=202)
def cancel_run(context: Ctx, who: Principal, run_id: str) -> RunSummary:
    """Shards under way are stopped; what is already made stays, and `resume` goes on from there."""
    return _act(context, "cancel", run_id)


@router.post("/v1/runs/{run_id}/pause", operation_id="pauseRun", summary="Pause a run", status_code=202)
def pause_run(context: Ctx, who: Principal, run_id: str) -> RunSummary:
    """Shards under way are stopped and made again after `resume`."""
    return _act(context, "pause", run_id)


@router.post("/v1/runs/{run_id}/resume", operation_id="resumeRun", summary="Resume a run", status_code=202)
def resume_run(
    context: Ctx,
    who: Principal,
    run_id: str,
    budget_usd: Annotated[
        float | None,
        Query(gt=0, le=1e9, allow_inf_nan=False, description="A new budget, in US dollars, in place of the recipe's."),
    ] = None,
) -> RunSummary:
    """A paused, cancelled or failed run goes on; shards that had failed are tried again.

    A run that has spent its budget goes on with a larger one; a budget may also be given to a run that is going on.
    """
    return _act(context, "resume", run_id, budget_usd)


def _act(context: Context, action: Action, run_id: str, budget_usd: float | None = None) -> RunSummary:
    runs = context.runs
    record, status, desired = runs.record(run_id), runs.status(run_id), runs.desired(run_id)
    wanted = decide(action, status.state if status else RunState.QUEUED, desired.wanted, budget_usd)
    if action == "resume":
        budget = budget_usd or desired.budget_usd or record.recipe.budget_usd
        check_budget(record.recipe, status.spent_usd if status else None, budget)
    if wanted is Wanted.RUNNING and status is not None:
        _forgive(context, status)
    runs.want(run_id, wanted, budget_usd)
    return summary(record, status, wanted)


def _forgive(context: Context, status: RunStatus) -> None:
    """Redis first: a failure record forgotten while the attempts are remembered would fail again at once."""
    artifacts = context.artifacts()
    for stage in status.stages:
        if stage.state is not StageState.DONE and artifacts.listing(stage.ref).failed:
            context.leases.forgive(stage.ref)
            artifacts.forgive(stage.ref)
