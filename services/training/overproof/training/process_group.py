"""Trains on this machine: torchrun and its ranks, as one process group that ends with the worker."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from threading import Event

from overproof.training import launcher
from overproof.training.job import Job


class ProcessGroup:
    """A `Runner`."""

    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds

    def run(self, ref: str, job: Job, checkpoint: Path | None, stop: Event, look: Callable[[], bool]) -> None:
        """See `ports.Runner`."""
        arguments = [str(job.scratch / "job.json"), *([str(checkpoint)] if checkpoint else [])]
        command = launcher.torchrun(job.options.processes, "overproof.training.fit", *arguments)
        launcher.run(command, job.scratch, job.log, job.threads, stop, look, self._stall_seconds)
