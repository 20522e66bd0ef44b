"""Submitting a run once, however often it is asked for."""

from __future__ import annotations

import hashlib
import time

from overproof.gateway.context import Context
from overproof.shared import tracing
from overproof.shared.errors import Conflict, StorageUnavailable
from overproof.shared.recipe import Recipe
from overproof.shared.runs import Bindings, RunRecord, new_run_id

ID_ATTEMPTS = 8
"""Ids have 24 random bits per day: a clash is rare, eight in a row are a broken disk."""


class KnownRequest:
    """What an Idempotency-Key stands for: `requests/<hash>.json`, written once and kept."""

    def __init__(self, context: Context, principal: str, key: str) -> None:
        self._files = context.files
        name = hashlib.sha256(f"{principal}\0{key}".encode()).hexdigest()
        self._path = f"requests/{name}.json"

    def record(self, body_sha256: str) -> RunRecord | None:
        """The run that the same request made, or None. Raises Conflict when the key came with another body."""
        try:
            stored = self._files.read_json(self._path)
        except FileNotFoundError:
            return None
        if stored["body_sha256"] != body_sha256:
            raise Conflict(
                "This Idempotency-Key was used with another body.", "Send a new key, or the same body as before."
            )
        return RunRecord.model_validate(stored["record"])

    def remember(self, body_sha256: str, record: RunRecord) -> bool:
        """Whether this request is the first with its key."""
        return self._files.create_json(
            self._path, {"body_sha256": body_sha256, "record": record.model_dump(mode="json")}
        )


def submit(
    context: Context,
    recipe: Recipe,
    bindings: Bindings,
    metadata: dict[str, str],
    known: KnownRequest | None,
    sha256: str,
) -> RunRecord:
    """Write the run; of several equal requests at once, the first one's record is everybody's."""
    for _ in range(ID_ATTEMPTS):
        now = time.time()
        record = RunRecord(
            run_id=new_run_id(now), created_at=now, recipe=recipe, bindings=bindings, metadata=metadata,
            origin=tracing.carried(),
        )  # fmt: skip
        if context.files.exists(f"runs/{record.run_id}/recipe.json"):
            continue
        if known is None:
            if context.runs.create(record):
                return record
            continue
        if not known.remember(sha256, record):
            record = known.record(sha256) or record
        return resumed(context, record)
    raise StorageUnavailable("No free id was found for the run.", "Try again.")


def resumed(context: Context, record: RunRecord) -> RunRecord:
    """The run of a known request, written now if the process that accepted it died before it could."""
    context.runs.create(record)
    return record
