"""Completions with Hugging Face Transformers on any machine, by continuous batching over the model's own forward pass.

The library's `generate` keeps finished sequences in the batch until the longest ends; here their places are filled again,
the samples of a problem share one reading of the prompt, and the cache grows in place. Measured in the service's README.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from overproof.inference.adapters.batch import Batch
from overproof.inference.adapters.chat import Chat, first_line
from overproof.inference.adapters.generation import Generation
from overproof.inference.adapters.weights import require_all
from overproof.inference.ports import Completion, Request
from overproof.shared.errors import EngineUnavailable, ModelError
from overproof.shared.recipe import EngineOptions
from overproof.shared.specs import Sampling

KNOWN_LAYERS = {"full_attention", "sliding_attention"}
"""Layer types whose memory is keys and values by token; others (state spaces, linear attention) cannot be realigned."""


class TransformersEngine:
    """A causal language model of Transformers: float32 on a CPU, bfloat16 on a GPU unless the recipe says otherwise."""

    def __init__(
        self, folder: Path, options: EngineOptions, *, torch_threads: int = 1, cache_share: float = 0.25
    ) -> None:
        """Raises ModelError for a checkpoint or options that this engine cannot use, EngineUnavailable when memory is short.

        `cache_share`: of the machine's memory, for keys and values on a CPU; a GPU follows `gpu_memory_utilization`.
        """
        validate(options)
        torch.set_num_threads(torch_threads)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.chat = Chat(folder, options.max_model_len)
        self.model = _load(folder, options.dtype, self.device)
        self.batch_size = options.batch_size
        self.cache_bytes = _cache_bytes(self.device, options.gpu_memory_utilization, cache_share)
        self._one_at_a_time = threading.Lock()

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, check: Callable[[], None]
    ) -> Iterator[Completion]:
        """See `Engine.generate`. Of two calls at once the second waits for the first."""
        while not self._one_at_a_time.acquire(timeout=1):
            check()
        try:
            batch = Batch(self.model, self.device)
            yield from Generation(batch, self.chat, sampling, requests, self.fitting, check).run()
        finally:
            self._one_at_a_time.release()

    def close(self) -> None:
        """Drop the weights."""
        del self.model
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    @property
    def places(self) -> int:
        """See `Engine.places`."""
        return self.batch_size

    @property
    def holds_gpu(self) -> bool:
        """See `Engine.holds_gpu`."""
        return bool(self.device.type == "cuda")

    def fitting(self, tokens: int) -> int:
        """How many sequences of this length run at once: `batch_size`, or what the memory for keys and values holds."""
        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        bytes_per_token = 2 * config.num_hidden_layers * heads * size * self.model.dtype.itemsize
        return max(1, min(self.batch_size, self.cache_bytes // int(bytes_per_token * tokens)))


def validate(options: EngineOptions) -> None:
    """Raises ModelError for options that only vLLM has."""
    if options.options or options.tensor_parallel_size > 1:
        raise ModelError(
            "The Transformers engine takes neither engine.options nor engine.tensor_parallel_size.",
            "Remove them, or use engine.kind vllm.",
        )


def _load(folder: Path, dtype: str, device: torch.device) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # a log file is no terminal
    kind = dtype if dtype != "auto" else "bfloat16" if device.type == "cuda" else "float32"
    require_all(folder)
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=getattr(torch, kind), local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        model = model.to(device).eval()
    except torch.OutOfMemoryError as error:
        raise EngineUnavailable(f"{folder.name} does not fit into the device's memory.", first_line(error)) from error
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"{folder.name} does not load: {first_line(error)}", "Restore the checkpoint.") from error
    layers = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    if layers - KNOWN_LAYERS:
        raise ModelError(
            f"{folder.name} has {', '.join(sorted(layers - KNOWN_LAYERS))} layers, which this engine cannot batch.",
            "Use engine.kind vllm.",
        )
    return model


def _cache_bytes(device: torch.device, gpu_share: float, cpu_share: float) -> int:
    """Of the whole memory, not of what is free now: the size of a batch must not depend on the neighbours' appetite."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return max(0, int(total * gpu_share) - int(torch.cuda.memory_allocated(device))) // 2
    return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * cpu_share)
