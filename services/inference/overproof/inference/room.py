"""vLLM waits for its GPUs' memory: it takes its share at once or does not start, and a training may be running there."""

from __future__ import annotations

import os
from collections.abc import Callable

from overproof.inference.settings import InferenceSettings
from overproof.shared import gpu_memory
from overproof.shared.errors import UserError
from overproof.shared.gpu_memory import GIB
from overproof.shared.recipe import EngineOptions


class NoRoom(UserError):
    """Something else keeps the memory of a GPU that the engine is to run on."""


def wait_for_room(
    options: EngineOptions, settings: InferenceSettings, check: Callable[[], None], tell: Callable[[], None]
) -> None:
    """Until `gpu_memory_utilization` of each of the engine's GPUs is free. Raises NoRoom after `gpu_wait_seconds`, and what `check` raises."""
    share = options.gpu_memory_utilization
    short = gpu_memory.wait_for_room(
        look=lambda: gpu_memory.visible(os.environ.get("CUDA_VISIBLE_DEVICES"))[: options.tensor_parallel_size],
        need=lambda gpu: share * gpu.total,
        check=check,
        tell=tell,
        seconds=settings.gpu_wait_seconds,
    )
    if short:
        raise NoRoom(
            f"engine.gpu_memory_utilization {share:g} is {short.needed / GIB:.1f} GiB, and after {settings.gpu_wait_seconds:.0f} s "
            f"of waiting {short}.",
            "A training has it, or a program that nvidia-smi names: end it or let it finish, then resume the run; or lower "
            "engine.gpu_memory_utilization, or raise OVERPROOF_GPU_WAIT_SECONDS.",
        )
