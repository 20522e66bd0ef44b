"""Live progress out of Redis, which may be away: then a run is shown without it, and says so."""

from __future__ import annotations

from overproof.gateway.context import Context
from overproof.gateway.views import LiveStage, RunView
from overproof.shared.errors import BrokerUnavailable
from overproof.shared.runs import StageState

AWAY = "Redis does not answer: live progress is not shown; the run itself goes on from storage."


def with_live(view: RunView, context: Context) -> RunView:
    """The run with the live figures of its running stages; asks Redis no further once it did not answer."""
    running = [stage for stage in view.stages if stage.state is StageState.RUNNING]
    try:
        live = [
            LiveStage(label=stage.label, ref=stage.ref, shards=context.leases.progress(stage.ref)) for stage in running
        ]
    except BrokerUnavailable:
        return view.model_copy(update={"live": None, "note": AWAY})
    return view.model_copy(update={"live": live})
