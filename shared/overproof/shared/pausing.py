"""A worker that cannot make shards just now takes no message for a while: they stay in the queue for workers that can."""

from __future__ import annotations

import time
from typing import Any

from celery import bootsteps

PAUSE_SECONDS = 20.0
"""Longer than it takes until a shard that was handed back is with another worker: the pipeline sends it again within some two seconds, and
once more after five if this worker's last request to Redis had just taken the message. Short against loading a model, which is a minute."""


class Pause:
    """Begun by the threads that make shards, looked at by Celery's main loop."""

    def __init__(self) -> None:
        self._until = 0.0

    def begin(self) -> None:
        """Take no message for PAUSE_SECONDS from now."""
        self._until = time.monotonic() + PAUSE_SECONDS

    def is_on(self) -> bool:
        return time.monotonic() < self._until


def pausing(pause: Pause) -> type[bootsteps.StartStopStep]:
    """A step of Celery's consumer: while `pause` is on, Redis is not asked for messages, as when all threads are busy."""

    class Pausing(bootsteps.StartStopStep):  # type: ignore[misc]
        requires = frozenset({"celery.worker.consumer.tasks:Tasks"})

        def start(self, parent: Any) -> None:
            qos = parent.task_consumer.channel.qos  # of a connection: after a lost one this runs again
            can_consume = qos.can_consume
            qos.can_consume = lambda: not pause.is_on() and can_consume()

    return Pausing
