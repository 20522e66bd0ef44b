"""Runs: cancel, pause, resume."""

from __future__ import annotations

from fastapi import APIRouter

from overproof.gateway.context import Context, Ctx
from overproof.gateway.domain.transitions import Action, decide
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
def resume_run(context: Ctx, who: Principal, run_id: str) -> RunSummary:
    """A paused, cancelled or failed run goes on; shards that had failed are tried again."""
    return _act(context, "resume", run_id)


def _act(context: Context, action: Action, run_id: str) -> RunSummary:
    runs = context.runs
    record, status = runs.record(run_id), runs.status(run_id)
    wanted = decide(action, status.state if status else RunState.QUEUED, runs.wanted(run_id))
    if wanted is Wanted.RUNNING and status is not None:
        _forgive(context, status)
    runs.want(run_id, wanted)
    return summary(record, status, wanted)


def _forgive(context: Context, status: RunStatus) -> None:
    """Redis first: a failure record forgotten while the attempts are remembered would fail again at once."""
    artifacts = context.artifacts()
    for stage in status.stages:
        if stage.state is not StageState.DONE and artifacts.listing(stage.ref).failed:
            context.leases.forgive(stage.ref)
            artifacts.forgive(stage.ref)
