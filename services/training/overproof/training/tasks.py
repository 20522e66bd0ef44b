"""Messages of training's queue: a student to train."""

from __future__ import annotations

from overproof.shared.specs import TrainSpec
from overproof.shared.topology import TaskName
from overproof.shared.worker import Work, Worker
from overproof.training import training
from overproof.training.settings import TrainingSettings
from overproof.training.verdicts import Asker


def register(worker: Worker, settings: TrainingSettings) -> None:
    """Tie the task to the worker."""
    asker = Asker(worker.artifacts, worker.leases, worker.app)

    @worker.task(TaskName.TRAIN, TrainSpec)
    def train(work: Work[TrainSpec]) -> None:
        training.train(work, settings, asker)
