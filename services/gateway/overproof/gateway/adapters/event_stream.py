"""A run as a stream of server-sent events."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

import anyio
from anyio import to_thread
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event

from overproof.gateway.adapters.live import with_live
from overproof.gateway.context import Context
from overproof.gateway.domain.transitions import FINAL
from overproof.gateway.problem_details import Busy
from overproof.gateway.views import RunView, run_view
from overproof.shared.runs import Event

POLL_SECONDS = 1.0
"""Between two looks at storage; each is one listing and one small file."""
KEEPALIVE_SECONDS = 15.0
"""Proxies close what is silent for 30 or 60 seconds."""
BATCH = 100
PROGRESS = "progress"


class Streams:
    """How many streams are open: each holds a connection and looks at storage every second."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.open = 0

    def limited(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The stream, counted while it runs. Raises Busy when too many are open."""
        if self.open >= self._most:
            raise Busy(f"{self._most} event streams are open already.", "Close one, or list the events instead.")
        return self._counted(stream)

    async def _counted(self, stream: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        self.open += 1
        try:
            async for chunk in stream:
                yield chunk
        finally:
            self.open -= 1


async def event_stream(context: Context, run_id: str, after: int) -> AsyncIterator[bytes]:
    """Stored events above number `after` with their ids, `progress` when something changed, `end` at the end of the run.

    A client that reconnects with Last-Event-ID misses nothing, since only stored events carry ids.
    """
    shown = ""
    ending = False
    spoke = time.monotonic()
    while not context.closing.is_set():
        view, events = await to_thread.run_sync(_look, context, run_id, after)
        for event in events:
            after = event.seq
            spoke = time.monotonic()
            yield _stored(event)
        if len(events) == BATCH:
            continue
        if ending:  # one look after the final state, for events that were written behind it
            yield _live("end", view.model_dump_json())
            return
        text = view.model_dump_json(exclude={"recipe", "bindings"})
        if text != shown:
            shown, spoke = text, time.monotonic()
            yield _live(PROGRESS, text)
        elif time.monotonic() - spoke > KEEPALIVE_SECONDS:
            spoke = time.monotonic()
            yield KEEPALIVE_COMMENT
        ending = view.state in FINAL
        await anyio.sleep(POLL_SECONDS)


def _look(context: Context, run_id: str, after: int) -> tuple[RunView, list[Event]]:
    """The status first: what the final state is about must be among the events that are read after it."""
    runs = context.runs
    view = run_view(runs.record(run_id), runs.status(run_id), runs.wanted(run_id))
    return with_live(view, context), runs.events(run_id, after, BATCH)


def _stored(event: Event) -> bytes:
    name = "note" if event.type == PROGRESS else event.type
    return format_sse_event(data_str=event.model_dump_json(), event=_one_line(name), id=str(event.seq))


def _live(name: str, text: str) -> bytes:
    return format_sse_event(data_str=text, event=name)


def _one_line(name: str) -> str:
    return " ".join(name.split())
