"""A worker's sign of life from Celery's main loop; one that hangs gives none, and its container's probe sees it.

A shard under way gives it too, with each renewal of its lease (`worker.py`). A worker that has lost Redis and has no
shard falls silent: restarting it costs nothing, and cures a connection that never comes back.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from celery import bootsteps

from overproof.shared import telemetry
from overproof.shared.topology import Service

SECONDS_PER_BEAT = 5.0
"""A probe should allow for many of these: 60 seconds do not call a busy machine dead."""


def heartbeat(service: Service, heartbeat_file: Path | None) -> type[bootsteps.StartStopStep]:
    """A step of Celery's worker that beats at the start and then every SECONDS_PER_BEAT, as long as the main loop turns."""

    class Heartbeat(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = frozenset({"celery.worker.components:Timer"})

        def start(self, parent: Any) -> None:
            telemetry.beat(service, heartbeat_file)
            parent.timer.call_repeatedly(SECONDS_PER_BEAT, telemetry.beat, (service, heartbeat_file))

    return Heartbeat
