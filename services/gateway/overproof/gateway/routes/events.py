"""What happens in a run: as a list, or as a stream of server-sent events."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from overproof.gateway.adapters.event_stream import Streams, event_stream
from overproof.gateway.context import Ctx
from overproof.gateway.guard import Principal
from overproof.gateway.views import EventPage

router = APIRouter(tags=["runs"])

SSE = "text/event-stream"
STREAM: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "A page of events; or, when the request accepts text/event-stream, the stream: each stored event with its "
        "number as id and its type as event, `progress` with the run's view whenever it changes (at most once a second), "
        "and `end` with the run's last view, after which the stream ends.",
        "content": {SSE: {"schema": {"type": "string"}}},
    }
}


@router.get(
    "/v1/runs/{run_id}/events",
    operation_id="listEvents",
    summary="List or follow a run's events",
    response_model=EventPage,
    responses=STREAM,
)
async def list_events(
    request: Request,
    context: Ctx,
    who: Principal,
    run_id: str,
    after: Annotated[int, Query(ge=0, le=10**8, description="Number of the last event that is known.")] = 0,
    limit: Annotated[int, Query(ge=1, le=1000, description="For the list.")] = 100,
    last_event_id: Annotated[str | None, Header(description="For the stream: goes before `after`.")] = None,
) -> Response | EventPage:
    """Events in order, from the one after `after`."""
    if SSE not in request.headers.get("accept", ""):
        found = await run_in_threadpool(context.runs.events, run_id, after, limit + 1)
        return EventPage(data=found[:limit], has_more=len(found) > limit)
    await run_in_threadpool(context.runs.record, run_id)
    streams: Streams = request.app.state.streams
    start = int(last_event_id) if last_event_id and last_event_id.isdecimal() and len(last_event_id) < 9 else after
    stream = streams.limited(event_stream(context, run_id, start))
    return StreamingResponse(stream, media_type=SSE, headers={"X-Accel-Buffering": "no"})
