"""Composition root: the worker, and which function makes which stage."""

from __future__ import annotations

from overproof.reporting import regrading, reviewing, tasks
from overproof.reporting.settings import ReportingSettings
from overproof.shared.specs import ChangesSpec, CompareSpec, ReportSpec, ReviewSpec, SelectSpec
from overproof.shared.topology import Service, TaskName
from overproof.shared.worker import Worker


def build(settings: ReportingSettings) -> Worker:
    """The worker of the queue `reporting`, not yet running."""
    worker = Worker(Service.REPORTING, settings)
    worker.task(TaskName.SELECT, SelectSpec)(tasks.select)
    worker.task(TaskName.COMPARE, CompareSpec)(tasks.compare)
    worker.task(TaskName.REPORT, ReportSpec)(tasks.report)
    worker.task(TaskName.REVIEW, ReviewSpec)(reviewing.review)
    worker.task(TaskName.CHANGES, ChangesSpec)(regrading.changes)
    return worker
