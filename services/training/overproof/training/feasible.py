"""Preflight of what a training needs: before rows are read, what the machine and the recipe say; after, whether it fits."""

from __future__ import annotations

from typing import Any

from overproof.shared.errors import RecipeError
from overproof.training.adapters import machine
from overproof.training.adapters.tokens import TokenRows
from overproof.training.domain import compute, estimate
from overproof.training.domain.batches import Schedule
from overproof.training.domain.compute import Shape
from overproof.training.domain.deepspeed_config import bucket_of
from overproof.training.domain.estimate import GIB, Sizes
from overproof.training.job import Job


def check_machine(job: Job) -> None:
    """Raises RecipeError for what cannot start here, whatever the rows are."""
    gpus = machine.visible_gpus()
    machine.check_deepspeed(job.options.deepspeed)
    if job.here:
        machine.check_processes(job.options, gpus)
        machine.check_quantization(job.options, gpus)
    if job.options.lora:
        from overproof.training.adapters import lora

        lora.matched(job.student, job.options.lora)


def reckon(job: Job, schedule: Schedule) -> dict[str, Any]:
    """The estimate for `preflight.json`: memory of one process, arithmetic and time of the whole training.

    Raises RecipeError when the training needs far more memory than the smallest GPU here has.
    """
    sizes = job.sizes
    if sizes is None:
        return {"estimate": None}
    train, fused = TokenRows(job.scratch, "train"), machine.has_fused_layers()
    tokens, bucket = _tokens_per_pass(job, train), bucket_of(job.n_trained)
    memory = estimate.memory_of(sizes, job.n_parameters, job.options, tokens, bucket, fused=fused)
    flops = _flops(job, sizes, train) * schedule.steps / schedule.steps_per_epoch
    gpus = machine.visible_gpus() if job.here else []
    found: dict[str, Any] = {"trained_weights": job.n_trained, "tokens_per_pass": tokens, "total_flops": flops}
    found |= memory.as_gib()
    if gpus:
        smallest = min(gpus, key=lambda one: one.bytes)
        found |= {"gpu": smallest.name, "gpu_gib": round(smallest.bytes / GIB, 2)}
        peak = compute.peak_flops(smallest.name)
        found["seconds"] = round(estimate.seconds_of(flops, job.options, peak)) if peak else None
        if memory.device > estimate.BY_FAR * smallest.bytes:
            fitting = estimate.remedies(
                sizes, job.n_parameters, job.options, tokens, bucket, smallest.bytes, fused=fused
            )
            raise RecipeError(
                f"The training needs about {memory.device / GIB:.0f} GiB per GPU, and {smallest.name} has {smallest.bytes / GIB:.0f}.",
                f"It would fit with {', or '.join(fitting[:3])}."
                if fitting
                else "Take a smaller student, or more GPUs.",
            )
    return {"estimate": found}


def _tokens_per_pass(job: Job, train: TokenRows) -> int:
    """Of the fullest forward pass; padded rows count as the longest."""
    return job.options.micro_batch_tokens or job.options.micro_batch_size * max(train.lengths)


def _flops(job: Job, sizes: Sizes, train: TokenRows) -> float:
    """Of one epoch."""
    shape = Shape(
        sizes.layers * sizes.layer, sizes.head, sizes.layers * sizes.queries, 0.0 if job.options.lora else 1.0
    )
    return compute.step_flops(shape, train.lengths, train.prompts)
