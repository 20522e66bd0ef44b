"""Composition root of the pipeline: one Celery worker and one reconciling thread."""

from __future__ import annotations

from overproof.pipeline import tasks
from overproof.pipeline.loop import Loop
from overproof.pipeline.reconcile import Reconciler
from overproof.pipeline.settings import PipelineSettings
from overproof.shared import telemetry
from overproof.shared.settings import read_secret_files
from overproof.shared.topology import Service
from overproof.shared.worker import Worker


def main() -> None:
    """Serve until SIGTERM."""
    read_secret_files()
    settings = PipelineSettings()
    telemetry.configure(settings, Service.PIPELINE)
    worker = Worker(Service.PIPELINE, settings)
    reconciler = Reconciler(worker.artifacts.files, worker.leases, worker.app)
    loop = Loop(reconciler, worker.leases, settings, worker.owner)
    tasks.register(worker, settings, loop)
    loop.start()
    try:
        worker.run()
    finally:
        loop.end()
