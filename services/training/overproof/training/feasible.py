"""Preflight of what a training needs: before rows are read, what the machine and the recipe say; after, whether it fits."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from overproof.shared import checkpoints
from overproof.shared.errors import RecipeError
from overproof.shared.packable import check_packing
from overproof.training.adapters import architecture, embedding, machine, recompute
from overproof.training.adapters.machine import Gpu
from overproof.training.adapters.tokens import TokenRows
from overproof.training.domain import compute, estimate
from overproof.training.domain.batches import Schedule, batch_of
from overproof.training.domain.compute import Shape
from overproof.training.domain.deepspeed_config import bucket_of
from overproof.training.domain.estimate import GIB, Memory, Sizes
from overproof.training.domain.preflight import batch_warnings
from overproof.training.job import Job


def check_machine(job: Job) -> list[str]:
    """Warnings of what will not be as it was asked for.

    Raises RecipeError for what cannot start here, whatever the rows are; ModelError for a student that cannot be trained.
    """
    gpus = machine.visible_gpus()
    machine.check_deepspeed(job.options.deepspeed)
    student = checkpoints.inspect(job.student)
    checkpoints.check_trainable(student)
    if job.options.micro_batch_tokens:
        check_packing(student.model_type)
    if job.here:
        machine.check_processes(job.options, gpus)
        machine.check_quantization(job.options, gpus)
        machine.check_optimizer(job.options)
    model = architecture.built(job.student)
    embedding.check_weights(job.student, job.vocab_size)
    architecture.check_complete(job.student, model)
    if job.options.lora:
        from overproof.training.adapters import lora

        lora.matched(model, job.options.lora)
    return [*batch_warnings(job.options, batch_of(job.options)), *_selective_warnings(job, model)]


def _selective_warnings(job: Job, model: Any) -> list[str]:
    if job.options.gradient_checkpointing != "selective" or recompute.finds_norms(model):
        return []
    return [
        f"training.gradient_checkpointing: selective finds no norms in {job.student.name} ({model.config.model_type}): it saves no memory."
    ]


def reckon_memory(job: Job, longest_row: int) -> dict[str, Any]:
    """`estimate` of one process's memory for a JSON report, None for an architecture of another kind; and `warnings`.

    Raises RecipeError when the training needs far more memory than the smallest GPU here has.
    """
    if job.sizes is None:
        return {"estimate": None, "warnings": []}
    need = _Need(job, job.sizes, _tokens_per_pass(job, longest_row))
    found: dict[str, Any] = {"trained_weights": job.n_trained, "tokens_per_pass": need.tokens, **need.memory.as_gib()}
    gpus = machine.visible_gpus() if job.here else []
    if not gpus:
        return {"estimate": found, "warnings": []}
    smallest = min(gpus, key=lambda one: one.bytes)
    found |= {"gpu": smallest.name, "gpu_gib": round(smallest.bytes / GIB, 2), "visible_gpus": len(gpus)}
    return {"estimate": found, "warnings": need.objections(smallest)}


def reckon(job: Job, schedule: Schedule) -> dict[str, Any]:
    """As `reckon_memory`, of the rows that were prepared, with arithmetic and time of the whole training."""
    train = TokenRows(job.scratch, "train")
    found = reckon_memory(job, max(train.lengths))
    if job.sizes is None:
        return found
    flops = _flops(job, job.sizes, train) * schedule.steps / schedule.steps_per_epoch
    found["estimate"]["total_flops"] = flops
    if "gpu" in found["estimate"]:
        peak = compute.peak_flops(found["estimate"]["gpu"])
        passes = schedule.steps * _passes_per_step(job, train, schedule)
        seconds = estimate.seconds_of(flops, passes, job.sizes.layers, job.options, peak) if peak else None
        found["estimate"]["seconds"] = seconds and round(seconds)
    return found


class _Need(NamedTuple):
    """What a training needs of a device."""

    job: Job
    sizes: Sizes
    tokens: int
    """Of the fullest forward pass."""

    @property
    def memory(self) -> Memory:
        job, fused = self.job, machine.has_fused_layers()
        return estimate.memory_of(
            self.sizes, job.n_parameters, job.options, self.tokens, bucket_of(job.n_trained), fused=fused
        )

    def objections(self, gpu: Gpu) -> list[str]:
        """A warning when it is tight; raises RecipeError when it cannot fit, with what would."""
        needed = self.memory.device
        said = f"The training needs about {needed / GIB:.0f} GiB per GPU, and {gpu.name} has {gpu.bytes / GIB:.0f}"
        if needed <= gpu.bytes:
            return []
        if needed <= estimate.BY_FAR * gpu.bytes:
            return [f"{said}. The formula is not exact: it is tried."]
        job, fused = self.job, machine.has_fused_layers()
        fitting = estimate.remedies(
            self.sizes, job.n_parameters, job.options, self.tokens, bucket_of(job.n_trained), gpu.bytes, fused=fused
        )
        remedy = (
            f"It would fit with {', or '.join(fitting[:3])}." if fitting else "Take a smaller student, or more GPUs."
        )
        raise RecipeError(f"{said}.", remedy)


def _tokens_per_pass(job: Job, longest_row: int) -> int:
    """Of the fullest forward pass of one process; padded rows count as the longest."""
    return job.options.micro_batch_tokens or batch_of(job.options).micro * longest_row


def _passes_per_step(job: Job, train: TokenRows, schedule: Schedule) -> int:
    """Of one process; packed ones as if every pass were full."""
    if job.options.micro_batch_tokens is None:
        return batch_of(job.options).accumulation
    per_step = sum(train.lengths) / schedule.steps_per_epoch
    return math.ceil(per_step / (job.options.micro_batch_tokens * job.options.processes))


def _flops(job: Job, sizes: Sizes, train: TokenRows) -> float:
    """Of one epoch."""
    shape = Shape(
        sizes.layers * sizes.layer, sizes.head, sizes.layers * sizes.queries, 0.0 if job.options.lora else 1.0
    )
    return compute.step_flops(shape, train.lengths, train.prompts)
