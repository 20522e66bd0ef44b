"""Composition root of training: one Celery worker, light, whose trainings are processes of their own."""

from __future__ import annotations

from overproof.shared import telemetry
from overproof.shared.settings import read_secret_files
from overproof.shared.topology import Service
from overproof.shared.worker import Worker
from overproof.training import tasks
from overproof.training.runners import runner_of
from overproof.training.settings import TrainingSettings


def main() -> None:
    """Serve until SIGTERM."""
    read_secret_files()
    settings = TrainingSettings()
    telemetry.configure(settings, Service.TRAINING)
    runner_of(settings)  # what it lacks is told now, not by the first training
    worker = Worker(Service.TRAINING, settings)
    tasks.register(worker, settings)
    worker.run()
