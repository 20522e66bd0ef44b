"""What this machine and its libraries allow, asked before a process group starts."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from pydantic import ValidationError

from overproof.shared.errors import RecipeError
from overproof.shared.recipe import TrainingOptions


class Gpu(NamedTuple):
    """One that this service may use."""

    name: str
    bytes: int


def visible_gpus() -> list[Gpu]:
    """In their order; none on a CPU. `CUDA_VISIBLE_DEVICES` limits them."""
    found = (torch.cuda.get_device_properties(index) for index in range(torch.cuda.device_count()))
    return [Gpu(str(one.name), int(one.total_memory)) for one in found]


def has_fused_layers() -> bool:
    """Whether Liger's kernels are installed."""
    return find_spec("liger_kernel") is not None


def check_processes(options: TrainingOptions, gpus: list[Gpu]) -> None:
    """Raises RecipeError when this machine is to run more processes than it has GPUs; nodes look for themselves (`setup.check_devices`)."""
    if gpus and options.processes > len(gpus):
        raise RecipeError(
            f"training.processes is {options.processes}, but this worker sees {len(gpus)} GPU{'s'[: len(gpus) > 1]}.",
            f"Set it to {len(gpus)} (for this machine alone: OVERPROOF_TRAINING_PROCESSES), or show the training service more GPUs: "
            "OVERPROOF_TRAINING_GPUS, else CUDA_VISIBLE_DEVICES, says which it has.",
        )


def check_quantization(options: TrainingOptions, gpus: list[Gpu]) -> None:
    """Raises RecipeError when `lora.quantize` is asked for and this worker cannot do it."""
    if options.lora is None or options.lora.quantize == "none":
        return
    if not gpus:
        raise RecipeError(
            "training.lora.quantize nf4 needs a GPU, and this worker sees none.",
            "Start the training service on a GPU, or set training.lora.quantize: none.",
        )
    _check_bitsandbytes("training.lora.quantize nf4", "training.lora.quantize: none")


def check_optimizer(options: TrainingOptions) -> None:
    """Raises RecipeError when `optimizer` needs a library that this worker does not have."""
    if options.optimizer == "adamw_8bit":
        _check_bitsandbytes("training.optimizer adamw_8bit", "training.optimizer: adamw")


def _check_bitsandbytes(asked: str, instead: str) -> None:
    if find_spec("bitsandbytes") is None:
        raise RecipeError(
            f"{asked} needs bitsandbytes, which is not installed.",
            f"Install overproof-training[bitsandbytes], or set {instead}.",
        )


def check_deepspeed(given: dict[str, Any]) -> None:
    """Raises RecipeError for a field below `training.deepspeed` that this version of DeepSpeed does not know, with its name."""
    if not given:
        return
    from deepspeed.compile.config import CompileConfig
    from deepspeed.runtime.zero.config import DeepSpeedZeroConfig
    from deepspeed.utils.config import DeepSpeedThroughputTimerConfig

    for where, kind, fields in (
        ("zero_optimization", DeepSpeedZeroConfig, given.get("zero_optimization", {})),
        ("compile", CompileConfig, given.get("compile", {})),
        ("timers.throughput", DeepSpeedThroughputTimerConfig, given.get("timers", {}).get("throughput", {})),
    ):
        try:
            kind.model_validate({name: value for name, value in fields.items() if value != "auto"})
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(str(part) for part in (where, *first["loc"]))
            raise RecipeError(
                f"training.deepspeed.{name}: {first['msg']}.", "Mend the field, or leave it out."
            ) from None
