"""Which keys of DeepSpeed's configuration a recipe may set: known without DeepSpeed, so that a wrong one is refused at once."""

from __future__ import annotations

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
}
"""DeepSpeed's key → the fields of `training` that say the same."""

ALLOWED = frozenset({
    "zero_optimization", "activation_checkpointing", "communication_data_type", "prescale_gradients", "gradient_predivide_factor",
    "sparse_gradients", "disable_allgather", "data_types", "zero_allow_untested_optimizer", "zero_force_ds_cpu_optimizer",
    "wall_clock_breakdown", "steps_per_print", "dump_state", "compile", "timers",
})  # fmt: skip
"""None that writes to a path of its own choice."""


def objection(given: dict[str, Any], zero_stage: int) -> str | None:
    """Why `training.deepspeed` cannot be used, and what to do instead, by the key's name; None when it can."""
    for key in given:
        if key in OWNED:
            return f"deepspeed.{key} fights with the recipe: leave it out and set {OWNED[key]}"
        if key not in ALLOWED:
            return f"deepspeed.{key} cannot be set here: allowed are {', '.join(sorted(ALLOWED))}"
    zero = given.get("zero_optimization", {})
    if not isinstance(zero, dict):
        return "deepspeed.zero_optimization is not a mapping: give its fields"
    if zero.get("stage", zero_stage) != zero_stage:
        return f"deepspeed.zero_optimization.stage {zero['stage']} is not zero_stage {zero_stage}: leave it out of the dictionary"
    for name in ("offload_param", "offload_optimizer"):
        if (zero.get(name) or {}).get("device", "cpu") not in ("cpu", "none"):
            return f"deepspeed.zero_optimization.{name} may only go to the CPU: set device: cpu, or offload instead"
    return None
