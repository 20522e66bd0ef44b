"""Settings of the inference service; none of them changes a result."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from overproof.shared.settings import Settings


class InferenceSettings(Settings):
    """`OVERPROOF_...`, as in `overproof.shared.settings`, and these."""

    torch_threads: int = Field(1, ge=1)
    """CPU threads of the Transformers engine. Two workers of one thread beat one worker of two: the threads of a small
    model wait for each other, and very long when other processes want the cores."""
    preload: Literal["none", "transformers", "vllm"] = "none"
    """Import this engine's library when the worker starts rather than at its first shard: seconds that no shard waits."""
    cache_share: float = Field(0.25, gt=0, le=0.9)
    """Share of this machine's memory that the Transformers engine's key-value cache may take on a CPU."""
