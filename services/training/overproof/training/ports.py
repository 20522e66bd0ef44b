"""Where the processes of a training run: a group of this machine (`process_group.py`), or the nodes of a cluster (`trainjob.py`)."""

from __future__ import annotations

from collections.abc import Callable
from threading import Event
from typing import Protocol

from overproof.training.job import Job


class Runner(Protocol):
    """Runs `overproof.training.fit` in as many processes as the job says."""

    def run(self, ref: str, job: Job, stop: Event, look: Callable[[], bool]) -> None:
        """From the newest checkpoint to its end, calling `look` (did anything happen?) while it lasts; `ref` names the artifact that is made.

        Nothing of it is left when this returns or raises: Stopped when `stop` was set; EngineUnavailable for what may pass on
        another attempt; the OverproofError that a process gave up with.
        """
