"""A training waits for its GPUs' memory: an inference worker on the same ones gives an idle model back after a while."""

from __future__ import annotations

import json
import os

from overproof.shared import gpu_memory
from overproof.shared.errors import UserError
from overproof.shared.gpu_memory import GIB, Gpu
from overproof.shared.specs import TrainSpec
from overproof.shared.work import Work
from overproof.training.job import Job
from overproof.training.settings import TrainingSettings

AS_GOOD_AS_EMPTY = 0.9
"""Of a GPU's memory: more is not asked for. The estimate is rough, and a display or another worker's CUDA context is no reason to wait."""


class NoRoom(UserError):
    """Something else keeps the memory of a GPU that the training is to run on."""


def wait_for_room(work: Work[TrainSpec], job: Job, settings: TrainingSettings) -> None:
    """Until the training's GPUs have free what the preflight reckons for one process. Raises NoRoom after `training_wait_seconds`, Stopped.

    Nothing is waited for where torch sees no GPU, where there is no estimate, or where a GPU is smaller than that: the estimate is
    rough, and the training itself will tell.
    """
    estimate = json.loads(job.preflight.read_text())["estimate"]
    if estimate is None or "gpu" not in estimate:
        return
    needed = estimate["device_gib"] * GIB
    names = settings.training_gpus or os.environ.get("CUDA_VISIBLE_DEVICES")
    short = gpu_memory.wait_for_room(
        look=lambda: gpu_memory.visible(names)[: job.options.processes],
        need=lambda gpu: _needed_of(gpu, needed),
        check=work.check,
        tell=lambda: work.progress(phase=gpu_memory.PHASE),
        seconds=settings.training_wait_seconds,
    )
    if short:
        raise NoRoom(
            f"The training needs about {needed / GIB:.1f} GiB per GPU, and after {settings.training_wait_seconds:.0f} s of waiting {short}.",
            "Inference keeps it while it has shards to make, of this run too (an idle model is given back after OVERPROOF_IDLE_SECONDS); "
            "nvidia-smi names other programs. End them or let them finish, then resume the run; or raise OVERPROOF_TRAINING_WAIT_SECONDS, "
            "or give training a GPU of its own (OVERPROOF_TRAINING_GPUS).",
        )


def _needed_of(gpu: Gpu, needed: float) -> float:
    return 0.0 if needed > gpu.total else min(needed, AS_GOOD_AS_EMPTY * gpu.total)
