"""Where training runs. None of this changes a result, except that sums over other numbers of threads round differently."""

from __future__ import annotations

import os

from pydantic import Field

from overproof.shared.settings import Settings


class TrainingSettings(Settings):
    """The settings of all services, and those of training."""

    training_threads: int | None = Field(None, ge=1)
    """CPU threads per process; None: the cores divided by the processes of all trainings that run at once."""
    training_stall_seconds: float = Field(3600, gt=0)
    """A training that makes no step for this long hangs (a lost peer, a stuck disk): it is ended and resumed."""

    def threads(self, processes: int) -> int:
        """CPU threads per process."""
        return self.training_threads or max(1, len(os.sched_getaffinity(0)) // (processes * self.concurrency))
