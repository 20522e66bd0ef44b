"""Trains on this machine: torchrun and its ranks, as one process group that ends with the worker."""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import Event

from overproof.training import launcher, resume
from overproof.training.job import Job


class ProcessGroup:
    """A `Runner`."""

    def __init__(self, stall_seconds: float) -> None:
        self._stall_seconds = stall_seconds

    def run(self, ref: str, job: Job, stop: Event, look: Callable[[], bool]) -> None:
        """See `ports.Runner`."""
        checkpoint = resume.make_ready(job)
        arguments = [str(job.scratch / "job.json"), *([str(checkpoint)] if checkpoint else [])]
        if checkpoint and resume.is_cut_for_others(job, checkpoint):
            recut = [sys.executable, "-m", "overproof.training.universal", *arguments]
            launcher.run(recut, job.scratch, job.log, job.threads, stop, lambda: False, self._stall_seconds)
        command = launcher.torchrun(job.options.processes, "overproof.training.fit", *arguments)
        launcher.run(command, job.scratch, job.log, job.threads, stop, look, self._stall_seconds)
