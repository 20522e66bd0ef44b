"""When a training validates, saves and stops, and which checkpoints stay."""

from __future__ import annotations

import json
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from overproof.training.checkpointing import keep_weights, mark_complete, prune
from overproof.training.domain import validation
from overproof.training.domain.batches import Schedule
from overproof.training.domain.validation import Validation
from overproof.training.job import Job, write_whole
from overproof.training.resume import MADE_BY


class Keeper(TrainerCallback):  # type: ignore[misc]
    """Validates at the end, saves the best, stops out of patience, and marks checkpoints complete."""

    def __init__(self, job: Job, schedule: Schedule) -> None:
        self._job = job
        self._schedule = schedule
        self._patience = job.options.patience

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if state.global_step == self._schedule.steps and self._schedule.validate_every:
            control.should_evaluate = True

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        history = validations(state)
        if self._job.options.choose_by == "loss" and validation.is_new_best(history):
            control.should_save = True
        if validation.out_of_patience(history, self._patience):
            control.should_training_stop = True
            control.should_save = control.should_save or self._job.options.choose_by != "loss"

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # every process has written its part
        if state.is_world_process_zero:
            checkpoint = self._job.checkpoints / f"checkpoint-{state.global_step}"
            write_whole(checkpoint / MADE_BY, json.dumps({"processes": args.world_size}))
            mark_complete(checkpoint)
            if self._job.options.choose_by == "accuracy" and self._job.probe_of(state.global_step).is_file():
                keep_weights(checkpoint)
            best = validation.best(validations(state)) if self._job.options.choose_by == "loss" else None
            prune(self._job.checkpoints, [best.step] if best else [])


def validations(state: TrainerState) -> list[Validation]:
    """All validations so far, those before a restart too."""
    return [Validation(one["step"], one["eval_loss"]) for one in state.log_history if "eval_loss" in one]
