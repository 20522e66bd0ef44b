"""DeepSpeed's configuration: a preset per ZeRO stage with the recipe's own dictionary merged over it.

The recipe has refused the keys that would contradict one of its own fields, or write to a path of their own choice.
"""

from __future__ import annotations

from typing import Any

from overproof.shared.recipe import TrainingOptions
from overproof.training.domain.batches import Batch

MAX_BUCKET = 200_000_000
"""Elements per reduction bucket. DeepSpeed allocates the bucket whole, so a small model gets a bucket of its own size."""
MIN_BUCKET = 100_000
PREFETCHED = 50_000_000
"""Weights that ZeRO 3 fetches ahead of their layer, DeepSpeed's default. Trainer's "auto" is less than one matrix."""


def deepspeed_config(options: TrainingOptions, batch: Batch, n_trained: int) -> dict[str, Any]:
    """The configuration as DeepSpeed gets it; `n_trained`: weights that get a gradient, about."""
    preset = {
        "train_micro_batch_size_per_gpu": batch.micro,
        "gradient_accumulation_steps": batch.accumulation,
        "gradient_clipping": options.max_grad_norm,
        # the norm of the gradient already says whether it is finite; a look at every parameter takes longer than AdamW
        "bf16": {"enabled": options.dtype == "bfloat16", "check_grad_overflow": False},
        "zero_optimization": _zero(options, n_trained) | _offload(options),
        # torch's AdamW instead of DeepSpeed's own, which would compile C++ on first use
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "steps_per_print": 1_000_000_000,
        "wall_clock_breakdown": False,
        # it waits for the GPU before and after every pass; the journal counts tokens
        "timers": {"throughput": {"enabled": False}},
    }
    return _merge(preset, options.deepspeed)


def bucket_of(n_trained: int) -> int:
    """Elements of a reduction bucket."""
    return min(MAX_BUCKET, max(MIN_BUCKET, n_trained))


def exchanges_early(options: TrainingOptions) -> bool:
    """Whether gradients and weights travel as `adapters.exchange` has it. A recipe that configures DeepSpeed gets DeepSpeed's own way."""
    return options.zero_stage in (1, 2) and options.offload == "none" and not options.deepspeed


def _zero(options: TrainingOptions, n_trained: int) -> dict[str, Any]:
    stage = options.zero_stage
    bucket = MIN_BUCKET if exchanges_early(options) else bucket_of(n_trained)  # held during backward, and not used
    zero: dict[str, Any] = {"stage": stage}
    if stage:
        # alone, a process waits for nobody, and a second stream only costs time
        overlap = options.processes > 1 and not exchanges_early(options)
        zero |= {"reduce_bucket_size": bucket, "contiguous_gradients": True, "overlap_comm": overlap}
    if stage in (1, 2):
        zero |= {"allgather_bucket_size": bucket}
    if stage == 3:
        zero |= {
            "stage3_prefetch_bucket_size": PREFETCHED,
            # its linear layers, in Python, keep no gathered weight for backward; where layers are computed again nothing is kept anyway
            "memory_efficient_linear": options.gradient_checkpointing is not True,
            "stage3_param_persistence_threshold": "auto",
            "stage3_gather_16bit_weights_on_model_save": True,
        }
    return zero


def _offload(options: TrainingOptions) -> dict[str, Any]:
    """The optimizer then runs on the CPU (torch's AdamW, which is vectorised there too); with parameters, weights wait there."""
    optimizer = {"offload_optimizer": {"device": "cpu", "pin_memory": True}}
    parameters = {"offload_param": {"device": "cpu", "pin_memory": True}}
    return {"none": {}, "optimizer": optimizer, "parameters": optimizer | parameters}[options.offload]


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged
