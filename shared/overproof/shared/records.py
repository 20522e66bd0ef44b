"""The JSON files beside an artifact's rows: what its parts, its shards and the whole of it are."""

from __future__ import annotations

from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict

from overproof.shared import __version__
from overproof.shared.topology import Stage


class Record(BaseModel):
    """Base of the JSON files beside the rows."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class FilePart(Record):
    """One file of an artifact. `rows` is None for a file that is not a table."""

    name: str
    rows: int | None
    bytes: int
    sha256: str


class Receipt(Record):
    """A finished shard."""

    shard: int
    parts: tuple[FilePart, ...]
    notes: dict[str, Any] = {}
    """What the stage measured: seconds, tokens, verdict counts; sums are formed over shards."""
    owner: str
    started_at: float
    """Unix seconds on the worker's clock: for display only."""
    finished_at: float
    version: str = __version__


class Failure(Record):
    """A shard that will not be tried again until somebody resumes the run."""

    shard: int
    message: str
    remedy: str = ""
    kind: str
    """Class name of the error, or `Poison` for a shard that took its workers down."""
    attempts: int
    owner: str
    failed_at: float


class Manifest(Record):
    """A complete artifact."""

    stage: Stage
    key: str
    n_shards: int
    parts: tuple[FilePart, ...]
    rows: int
    bytes: int
    schema_name: str | None
    inputs: tuple[str, ...]
    """References of the artifacts it was made from."""
    notes: tuple[dict[str, Any], ...]
    """The receipts' notes, in shard order."""
    finished_at: float
    version: str = __version__


class Listing(NamedTuple):
    """Where an artifact stands."""

    declared: bool
    """Its spec is there: somebody asked for it."""
    done: set[int]
    failed: set[int]
    complete: bool
