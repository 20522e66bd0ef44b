"""Asks the grading service for verdicts and waits: the question and the answer lie in storage, Redis only carries the call."""

from __future__ import annotations

import contextlib
import hashlib
import io
import time

import anyio
import pyarrow.parquet as pq
from anyio import to_thread
from kombu.exceptions import OperationalError

from overproof.gateway.context import Context
from overproof.gateway.domain.answers import GradeRequest, GradeResponse, judgement, rows_of_items
from overproof.gateway.problem_details import ServiceTimeout
from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import BrokerUnavailable, CorruptShard, OverproofError
from overproof.shared.messages import ShardRequest
from overproof.shared.specs import AnswersSpec
from overproof.shared.tables import ANSWERS, GRADES, rows_of, table_of
from overproof.shared.topology import TaskName

RUN_ID = "grade-api"
FIRST_PAUSE_SECONDS = 0.005
LONGEST_PAUSE_SECONDS = 0.1
SEND_AGAIN_SECONDS = 10.0
"""A message dies with the worker that took it; a second one for a shard that is at work costs a millisecond."""
SHARD = 0


class GradingFailed(OverproofError):
    """The grading service gave the batch up."""

    status = 502


def prepare(context: Context, asked: GradeRequest) -> AnswersSpec:
    """Write the question to `artifacts/answers/<key>/`, where grading reads it."""
    buffer = io.BytesIO()
    pq.write_table(table_of(rows_of_items(asked.items), ANSWERS), buffer, compression="zstd", write_page_checksum=True)
    content = buffer.getvalue()
    spec = AnswersSpec(sha256=hashlib.sha256(content).hexdigest(), options=asked.options)
    artifacts = context.artifacts()
    context.files.create(f"{artifacts.folder(spec.ref)}/answers.parquet", content)
    artifacts.declare(spec)
    return spec


async def grade(context: Context, spec: AnswersSpec) -> GradeResponse:
    """Verdicts in the order of the items. Raises ServiceTimeout, GradingFailed, BrokerUnavailable."""
    artifacts = context.artifacts()
    seen = await to_thread.run_sync(artifacts.listing, spec.ref)
    if SHARD not in seen.done:
        await _ask(context, artifacts, spec, failed_before=SHARD in seen.failed)
    try:
        return await to_thread.run_sync(_read, artifacts, spec)
    except CorruptShard:  # it was set aside just now; asking once more has it made again
        await _ask(context, artifacts, spec, failed_before=False)
        return await to_thread.run_sync(_read, artifacts, spec)


async def _ask(context: Context, artifacts: Artifacts, spec: AnswersSpec, *, failed_before: bool) -> None:
    if failed_before:
        await to_thread.run_sync(_forgive, context, artifacts, spec.ref)
    await to_thread.run_sync(_send, context, spec)
    await _wait(context, artifacts, spec)


def _forgive(context: Context, artifacts: Artifacts, ref: str) -> None:
    context.leases.forgive(ref)
    artifacts.forgive(ref)


def _send(context: Context, spec: AnswersSpec) -> None:
    request = ShardRequest(stage=spec.stage, key=spec.key, shard=SHARD, run_id=RUN_ID)
    context.leases.ping()  # fails within a second where the queue's own client would try for much longer
    try:
        context.celery.send_task(TaskName.ANSWERS, kwargs=request.model_dump(mode="json"))
    except OperationalError as error:
        raise BrokerUnavailable("The answers cannot be sent to grading: Redis does not answer.", "Start it.") from error


async def _wait(context: Context, artifacts: Artifacts, spec: AnswersSpec) -> None:
    seconds = context.settings.grade_timeout_seconds
    started = sent = time.monotonic()
    pause = FIRST_PAUSE_SECONDS
    while (now := time.monotonic()) - started < seconds:
        seen = await to_thread.run_sync(artifacts.listing, spec.ref)
        if SHARD in seen.done:
            return
        if SHARD in seen.failed:
            failure = artifacts.failure(spec.ref, SHARD)
            raise GradingFailed(failure.message, failure.remedy)
        if now - sent > SEND_AGAIN_SECONDS:
            sent = now
            with contextlib.suppress(BrokerUnavailable):  # the first message may have arrived all the same
                await to_thread.run_sync(_send, context, spec)
        await anyio.sleep(pause)
        pause = min(LONGEST_PAUSE_SECONDS, pause * 1.5)
    raise ServiceTimeout(
        f"Grading did not answer within {seconds:g} seconds.",
        "Send fewer items, start more grading workers, or ask again: what was judged meanwhile is kept.",
    )


def _read(artifacts: Artifacts, spec: AnswersSpec) -> GradeResponse:
    receipt = artifacts.receipt(spec.ref, SHARD)
    rows = [row for part in receipt.parts for row in rows_of(artifacts.read_part(spec.ref, part, GRADES))]
    return GradeResponse(data=[judgement(row) for row in rows], grader=spec.grader)
