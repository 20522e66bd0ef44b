"""The two messages that travel through Redis. They carry keys, never rows; a worker checks them again on arrival."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from overproof.shared.topology import Stage

KEY_PATTERN = r"^[0-9a-f]{32}$"
RUN_PATTERN = r"^[a-z0-9][a-z0-9_-]{0,63}$"


class Message(BaseModel):
    """Frozen and strict: an unknown field is an error, not a surprise later."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class ShardRequest(Message):
    """Make one shard of one artifact; what to make stands in `artifacts/<stage>/<key>/spec.json`."""

    stage: Stage
    key: str = Field(pattern=KEY_PATTERN)
    """Key of the artifact: the hash of its spec."""
    shard: int = Field(ge=0, le=10_000_000)
    """Which shard, counted from 0."""
    run_id: str = Field(pattern=RUN_PATTERN)
    """The run on whose behalf it is made: for logs only, since two runs that share a stage share its artifact."""


class ShardDone(ShardRequest):
    """A shard was published or has failed for good; the pipeline looks at storage to see which."""
