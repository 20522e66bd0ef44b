"""Messages of training's queue: a student to check, a student to train."""

from __future__ import annotations

from overproof.shared.specs import CheckStudentSpec, TrainSpec
from overproof.shared.topology import TaskName
from overproof.shared.worker import Worker
from overproof.training import training
from overproof.training.checking import check_student
from overproof.training.settings import TrainingSettings
from overproof.training.verdicts import Asker


def register(worker: Worker, settings: TrainingSettings) -> None:
    """Serve `training.check` and `training.train`."""
    asker = Asker(worker.artifacts, worker.leases, worker.app)
    worker.task(TaskName.CHECK_STUDENT, CheckStudentSpec)(lambda work: check_student(work, settings))
    worker.task(TaskName.TRAIN, TrainSpec)(lambda work: training.train(work, settings, asker))
