"""Settings of the inference service; none of them changes a result."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

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
    idle_seconds: float = Field(30.0, ge=0)
    """A model on a GPU that no shard has used for so long is closed, so that a training may have the memory. Shards of one stage follow each
    other at once; loading it again costs a minute. 0: never, where inference has GPUs of its own."""
    gpu_wait_seconds: float = Field(14_400.0, ge=0)
    """So long vLLM's share of its GPUs may be taken, e.g. by a training on them, while no worker makes a shard of the stage; then the
    shard fails and says what is free. A shard that waits is handed back after 20 s, for a worker on another GPU."""
    openai_base_url: str = Field("", repr=False)
    """Where the server of `engine.kind: openai` is, e.g. http://127.0.0.1:8001/v1."""
    openai_api_key: SecretStr = SecretStr("")
    """Its key, if it wants one; better in the file that `OVERPROOF_OPENAI_API_KEY_FILE` names."""
    openai_concurrency: int = Field(32, ge=1, le=4096)
    """Requests of one worker that are under way at once."""
    openai_retries: int = Field(20, ge=0, le=1000)
    """Tries after the first of a request that was answered 429 or 5xx or not at all; 20 are two minutes and more."""
    openai_timeout_seconds: float = Field(600.0, gt=0)
    """Longest wait for one answer: a long solution is sent when it is finished."""
