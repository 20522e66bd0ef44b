"""Which keys of DeepSpeed's configuration a recipe may set: known without DeepSpeed, so that a wrong one is refused at once."""

from __future__ import annotations

import json
from typing import Any

OWNED = {
    "train_batch_size": "global_batch_size",
    "train_micro_batch_size_per_gpu": "micro_batch_size",
    "gradient_accumulation_steps": "global_batch_size, micro_batch_size and processes",
    "gradient_clipping": "max_grad_norm",
    "optimizer": "learning_rate, weight_decay and adam_beta2",
    "scheduler": "scheduler and warmup_share",
    "bf16": "dtype",
    "fp16": "dtype",
    "amp": "dtype",
    "activation_checkpointing": "gradient_checkpointing",
}
"""DeepSpeed's key → the fields of `training` that say the same."""

OWNED_OF_ZERO = dict.fromkeys(
    ("offload_optimizer", "offload_param", "cpu_offload", "cpu_offload_param", "cpu_offload_use_pin_memory"), "offload"
)
"""The same of the keys below `zero_optimization`, with their older names."""

GATHERING = (
    "stage3_gather_16bit_weights_on_model_save", "gather_16bit_weights_on_model_save", "stage3_gather_fp16_weights_on_model_save",
)  # fmt: skip
"""One setting by three names: without it, ZeRO 3 writes checkpoints that hold no weights."""

MAPPING, TRUTH, NUMBER, TEXT = "a mapping", "true or false", "a number above 0", "a text"

ALLOWED = {
    "zero_optimization": MAPPING, "data_types": MAPPING, "compile": MAPPING, "timers": MAPPING,
    "prescale_gradients": TRUTH, "sparse_gradients": TRUTH, "disable_allgather": TRUTH, "zero_allow_untested_optimizer": TRUTH,
    "zero_force_ds_cpu_optimizer": TRUTH, "wall_clock_breakdown": TRUTH, "dump_state": TRUTH,
    "gradient_predivide_factor": NUMBER, "steps_per_print": NUMBER, "communication_data_type": TEXT,
}  # fmt: skip
"""Key → what it takes; none that writes to a path of its own choice."""


def objection(given: dict[str, Any], zero_stage: int) -> str | None:
    """Why `training.deepspeed` cannot be used, and what to do instead, by the key's name; None when it can."""
    for key, value in given.items():
        if key in OWNED:
            return f"deepspeed.{key} fights with the recipe: leave it out and set {OWNED[key]}"
        if key not in ALLOWED:
            return f"deepspeed.{key} cannot be set here: allowed are {', '.join(sorted(ALLOWED))}"
        if not _is(ALLOWED[key], value):
            return f"deepspeed.{key} must be {ALLOWED[key]}: mend it, or leave it out"
    if said := _of_timers(given.get("timers", {})):
        return said
    return _of_zero(given.get("zero_optimization", {}), zero_stage) or _of_numbers(given)


def _of_zero(zero: dict[str, Any], zero_stage: int) -> str | None:
    for key in zero:
        if key in OWNED_OF_ZERO:
            return (
                f"deepspeed.zero_optimization.{key} fights with the recipe: leave it out and set {OWNED_OF_ZERO[key]}"
            )
        if key in GATHERING:
            return f"deepspeed.zero_optimization.{key} is always on, or the student would have no weights: leave it out"
    if zero.get("stage", zero_stage) != zero_stage:
        return f"deepspeed.zero_optimization.stage {zero['stage']} is not zero_stage {zero_stage}: leave it out of the dictionary"
    return None


def _of_timers(timers: dict[str, Any]) -> str | None:
    if not isinstance(timers.get("throughput", {}), dict):
        return f"deepspeed.timers.throughput must be {MAPPING}: mend it, or leave it out"
    return None


def _of_numbers(given: dict[str, Any]) -> str | None:
    try:
        json.dumps(given, allow_nan=False)
    except (ValueError, TypeError):
        return "deepspeed holds a number that is not finite, or what JSON cannot hold: the configuration is kept as JSON, so mend it"
    return None


def _is(kind: str, value: object) -> bool:
    if kind == NUMBER:
        return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
    return isinstance(value, {MAPPING: dict, TRUTH: bool, TEXT: str}[kind])
