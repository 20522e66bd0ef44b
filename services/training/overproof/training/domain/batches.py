"""How many rows go where: one global batch is the same set of rows on any number of processes."""

from __future__ import annotations

import math
from typing import NamedTuple

from overproof.shared.errors import RecipeError
from overproof.shared.recipe import TrainingOptions


class Batch(NamedTuple):
    """Rows per optimizer step = micro x processes x accumulation."""

    micro: int
    """Rows per process and forward pass."""
    processes: int
    accumulation: int
    """Forward passes per process and optimizer step."""

    @property
    def rows(self) -> int:
        """Rows per optimizer step."""
        return self.micro * self.processes * self.accumulation


class Schedule(NamedTuple):
    """When things happen, in optimizer steps."""

    steps: int
    steps_per_epoch: float
    warmup_steps: int
    save_every: int
    validate_every: int | None
    """None: the validation loss is never computed."""


def batch_of(options: TrainingOptions) -> Batch:
    """Split the global batch. The micro-batch shrinks to the next divisor, so that no step is uneven.

    Raises RecipeError when the processes cannot share the global batch equally.
    """
    if options.micro_batch_tokens is not None:  # how many passes a step takes follows from the rows' lengths
        return Batch(micro=1, processes=options.processes, accumulation=1)
    share, rest = divmod(options.global_batch_size, options.processes)
    if rest or not share:
        raise RecipeError(
            f"training.global_batch_size {options.global_batch_size} is not a multiple of training.processes {options.processes}.",
            f"Set it to {' or '.join(str(n * options.processes) for n in sorted({max(1, share), share + 1}))}.",
        )
    micro = next(n for n in range(min(options.micro_batch_size, share), 0, -1) if share % n == 0)
    return Batch(micro=micro, processes=options.processes, accumulation=share // micro)


def schedule_of(options: TrainingOptions, n_train: int, n_val: int, rows_per_step: float | None = None) -> Schedule:
    """Steps out of rows; `rows_per_step`: where it is not `global_batch_size`.

    `max_steps` wins over `epochs`; the last batch of the last epoch is filled up, never cut."""
    steps_per_epoch = n_train / (rows_per_step or options.global_batch_size)
    steps = options.max_steps or max(1, math.ceil(options.epochs * steps_per_epoch))
    validates = n_val > 0 and options.evaluations_per_epoch > 0
    return Schedule(
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        warmup_steps=min(round(options.warmup_share * steps), steps - 1),  # the last step at least learns
        save_every=options.save_every_steps,
        validate_every=max(1, round(steps_per_epoch / options.evaluations_per_epoch)) if validates else None,
    )
