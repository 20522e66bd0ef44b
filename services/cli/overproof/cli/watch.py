"""Follow a run to its end; the gateway may go away and come back meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable

from overproof.cli.client import Gateway
from overproof.cli.errors import Refused, Unreachable
from overproof.cli.render import Renderer
from overproof.cli.views import RunView, run_view

SECONDS_BETWEEN_LOOKS = 1.0
MAX_SECONDS_BETWEEN_TRIES = 15.0
LOOKS_AT_A_PAUSE = 5  # of a run that is wanted: it may just have been resumed, or it paused by itself
TRIES_BEFORE_SAYING_SO = 2  # one lost connection is not worth a line


def watch(
    gateway: Gateway,
    run_id: str,
    renderer: Renderer,
    pause: Callable[[float], None] = time.sleep,
    seconds_between_looks: float = SECONDS_BETWEEN_LOOKS,
) -> RunView:
    """Show the run until it is final or paused; returns it as it then is.

    Raises Refused when the gateway does not know the run. An unreachable gateway is tried again for ever.
    """
    seen, failures, pauses = 0, 0, 0
    with renderer:
        while True:
            try:
                run = run_view(gateway.run(run_id))
                seen = _events(gateway, run_id, seen, renderer)
                failures = 0
            except Unreachable as error:
                failures += 1
                if failures >= TRIES_BEFORE_SAYING_SO:
                    renderer.unreachable(error.message)
                pause(min(MAX_SECONDS_BETWEEN_TRIES, seconds_between_looks * 2 ** min(failures - 1, 10)))
                continue
            renderer.show(run, time.time())
            pauses = pauses + 1 if run.state == "paused" else 0
            if run.final or pauses > (LOOKS_AT_A_PAUSE if run.wanted == "running" else 0):
                return run
            pause(seconds_between_looks)


def _events(gateway: Gateway, run_id: str, seen: int, renderer: Renderer) -> int:
    """Show what happened since event `seen`; returns the number of the last one shown."""
    try:
        events = gateway.events(run_id, seen)
    except Refused:  # a gateway without events still shows the run
        return seen
    for event in events:
        if not str(event.get("type")).startswith(("run.", "stage.")):  # the display itself says those
            renderer.event(event)
        seen = max(seen, int(event.get("seq") or 0))
    return seen
