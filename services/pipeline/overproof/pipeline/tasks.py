"""Messages of the pipeline's queue: a data set to prepare, a shard that is done."""

from __future__ import annotations

from typing import Any

from overproof.pipeline.adapters.sources import rows_of_source
from overproof.pipeline.loop import Loop
from overproof.pipeline.prepare import prepare
from overproof.pipeline.settings import PipelineSettings
from overproof.shared import telemetry, tracing
from overproof.shared.specs import PrepareSpec
from overproof.shared.topology import TaskName
from overproof.shared.work import Work
from overproof.shared.worker import Worker


def register(worker: Worker, settings: PipelineSettings, loop: Loop) -> None:
    """Tie the tasks to the worker."""

    @worker.task(TaskName.PREPARE, PrepareSpec)
    def prepare_table(work: Work[PrepareSpec]) -> None:
        prepare(work, rows_of_source(work.spec.source, work.artifacts.files, settings))

    def shard_done(task: Any, **message: Any) -> None:
        with telemetry.following(TaskName.SHARD_DONE, tracing.received(task.request), **message):
            loop.wake()

    worker.app.task(name=str(TaskName.SHARD_DONE), bind=True)(shard_done)
