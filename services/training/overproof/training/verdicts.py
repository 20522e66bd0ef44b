"""Asks the grading service for verdicts: the question and the answer lie in storage, Redis only carries the call.

Training never judges. It neither waits inside a step: it asks, looks now and then, and asks again when a call was lost.
"""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pyarrow.parquet as pq
from celery import Celery
from kombu.exceptions import OperationalError

from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import BrokerUnavailable, CorruptShard, EngineUnavailable
from overproof.shared.leases import Leases
from overproof.shared.messages import ShardRequest
from overproof.shared.recipe import GradingOptions
from overproof.shared.specs import AnswersSpec
from overproof.shared.tables import ANSWERS, GRADES, rows_of, table_of
from overproof.shared.topology import TaskName
from overproof.training.domain.probing import Solution

SHARD = 0
SECONDS_BETWEEN_LOOKS = 0.3
SEND_AGAIN_SECONDS = 30.0
"""A call dies with the worker that took it; a second one for answers that are being judged costs a millisecond."""


class Question:
    """Solutions of one probe, on their way to verdicts."""

    def __init__(self, artifacts: Artifacts, leases: Leases, app: Celery, spec: AnswersSpec, run_id: str) -> None:
        self._artifacts = artifacts
        self._leases = leases
        self._app = app
        self._spec = spec
        self._run_id = run_id
        self._looked = self._sent = float("-inf")
        self._forgave = False

    def answer(self) -> list[str] | None:
        """The verdicts, in the solutions' order; None while they are not there.

        Raises EngineUnavailable with grading's reason when it gave them up, twice.
        """
        now = time.monotonic()
        if now - self._looked < SECONDS_BETWEEN_LOOKS:
            return None
        self._looked = now
        seen = self._artifacts.listing(self._spec.ref)
        if SHARD in seen.done:
            with suppress(CorruptShard):  # set aside just now; it is made again
                return self._read()
        if SHARD in seen.failed:
            self._forgive()
        if now - self._sent > SEND_AGAIN_SECONDS:
            with suppress(BrokerUnavailable):  # the next look but some sends it
                self._send()
            self._sent = now
        return None

    def _read(self) -> list[str]:
        receipt = self._artifacts.receipt(self._spec.ref, SHARD)
        rows = [
            row for part in receipt.parts for row in rows_of(self._artifacts.read_part(self._spec.ref, part, GRADES))
        ]
        return [str(row["verdict"]) for row in rows]

    def _forgive(self) -> None:
        """A failure of an earlier attempt may be mended by now."""
        if self._forgave:
            failure = self._artifacts.failure(self._spec.ref, SHARD)
            raise EngineUnavailable(f"A probe could not be graded: {failure.message}", failure.remedy)
        with suppress(BrokerUnavailable):
            self._leases.forgive(self._spec.ref)
            self._artifacts.forgive(self._spec.ref)
            self._forgave, self._sent = True, float("-inf")

    def _send(self) -> None:
        request = ShardRequest(stage=self._spec.stage, key=self._spec.key, shard=SHARD, run_id=self._run_id)
        self._leases.ping()  # fails within a second where the queue's own client would try for much longer
        with suppress(OperationalError):
            self._app.send_task(TaskName.ANSWERS, kwargs=request.model_dump(mode="json"))


class Asker:
    """Puts questions to grading."""

    def __init__(self, artifacts: Artifacts, leases: Leases, app: Celery) -> None:
        self._artifacts = artifacts
        self._leases = leases
        self._app = app

    def ask(
        self, solutions: Sequence[Solution], golds: dict[str, list[str]], options: GradingOptions, run_id: str
    ) -> Question:
        """Write the question to `artifacts/answers/<key>/`; the same solutions make the same one. `golds` by problem_id."""
        rows = (_row(index, one, golds.get(one["problem_id"], [])) for index, one in enumerate(solutions))
        buffer = io.BytesIO()
        pq.write_table(table_of(rows, ANSWERS), buffer, compression="zstd", write_page_checksum=True)
        content = buffer.getvalue()
        spec = AnswersSpec(sha256=hashlib.sha256(content).hexdigest(), options=options)
        self._artifacts.files.create(f"{self._artifacts.folder(spec.ref)}/answers.parquet", content)
        self._artifacts.declare(spec)
        return Question(self._artifacts, self._leases, self._app, spec, run_id)


def _row(index: int, solution: Solution, gold: list[str]) -> dict[str, Any]:
    return {
        "index": index,
        "text": solution["text"],
        "is_solution": True,
        "gold": gold,
        "finish_reason": solution["finish_reason"],
    }
