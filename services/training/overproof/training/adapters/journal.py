"""The journal of a training: a line per optimizer step and validation."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from overproof.shared.errors import UserError
from overproof.training.adapters.boards import EventFiles
from overproof.training.domain import compute
from overproof.training.domain.batches import Schedule
from overproof.training.job import Job


class Journal(TrainerCallback):  # type: ignore[misc]
    """Appends one line per optimizer step and validation to `metrics.jsonl`; stops a training whose loss is no number."""

    def __init__(
        self,
        job: Job,
        schedule: Schedule,
        tokens_after: list[int],
        flops: list[float],
        gpus: int,
        when: Callable[[], float] = time.monotonic,
    ) -> None:
        """`when`: on the monotonic clock, the end of what is being logged."""
        self._path = job.metrics
        self._event_files = EventFiles(job.event_files)
        self._schedule = schedule
        self._tokens_after = tokens_after
        self._flops = flops
        self._gpus = gpus
        self._when = when
        self._began = (0, 0.0)  # step, seconds
        self._last = 0.0

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self._last = time.monotonic()
        self._began = (state.global_step, self._last)

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: dict[str, float], **_: Any
    ) -> None:
        if "eval_loss" in logs:
            line = {"val_loss": logs["eval_loss"]}
        elif "loss" in logs:
            line = self._step_line(state.global_step, logs)
        else:
            return
        logs |= line  # callbacks behind this one show what the journal holds
        _must_be_finite(state.global_step, line)
        if state.is_world_process_zero:
            self.append(state, line)

    def append(self, state: TrainerState, figures: dict[str, float]) -> None:
        """One more line: where the training is, and the figures."""
        position = {"step": state.global_step, "steps": state.max_steps, "epoch": self._epoch(state.global_step)}
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(position | figures) + "\n")
        self._event_files.show(state.global_step, figures)

    def skip(self, seconds: float) -> None:
        """Take out of the step's time what was no training."""
        self._last += seconds
        self._began = (self._began[0], self._began[1] + seconds)

    def _step_line(self, step: int, logs: dict[str, float]) -> dict[str, float]:
        now, (first_step, began) = self._when(), self._began
        seconds_per_step = (now - began) / max(1, step - first_step)
        tokens = self._tokens_after[step] - self._tokens_after[step - 1]
        line = {
            "loss": logs["loss"],
            "learning_rate": logs["learning_rate"],
            "tokens": self._tokens_after[step],
            "tokens_per_second": round(tokens / max(1e-9, now - self._last), 1),
            "seconds": round(now - began, 3),
            "eta_seconds": round((self._schedule.steps - step) * seconds_per_step, 1),
        }
        if "grad_norm" in logs:  # `training.deepspeed` may leave it out
            line["grad_norm"] = logs["grad_norm"]
        if torch.cuda.is_available():
            line |= self._device_figures(step, now - self._last)
        self._last = now
        return line

    def _device_figures(self, step: int, seconds: float) -> dict[str, float]:
        peak = compute.peak_flops(torch.cuda.get_device_name())
        figures: dict[str, float] = {"memory_bytes": torch.cuda.max_memory_allocated()}
        if peak:
            figures["mfu"] = round(self._flops[step - 1] / seconds / self._gpus / peak, 4)
        return figures

    def _epoch(self, step: int) -> float:
        return round(step / self._schedule.steps_per_epoch, 4)


def _must_be_finite(step: int, line: dict[str, float]) -> None:
    bad = [name for name in ("loss", "grad_norm", "val_loss") if not math.isfinite(line.get(name, 0.0))]
    if line.get("grad_norm", 0.0) < 0:  # DeepSpeed writes -1 for a norm that is no number
        bad.append("grad_norm")
    if bad:
        raise UserError(
            f"The training diverged: {bad[0]} is {line[bad[0]]} at step {step}.",
            "Lower training.learning_rate, raise training.warmup_share, or set training.dtype to float32.",
        )
