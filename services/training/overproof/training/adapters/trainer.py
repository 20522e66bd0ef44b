"""transformers' Trainer on DeepSpeed, with our own order of rows, loss over the completion only, and validation over every token."""

from __future__ import annotations

import itertools
import json
import math
import time
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_pt_utils import nested_gather

from overproof.shared.errors import UserError
from overproof.training import checkpointing
from overproof.training.adapters import clipping, exchange, late
from overproof.training.adapters.boards import EventFiles
from overproof.training.adapters.tokens import TokenRows
from overproof.training.checkpointing import keep_weights, mark_complete, prune
from overproof.training.domain import compute, groups, validation
from overproof.training.domain.batches import Batch, Schedule
from overproof.training.domain.deepspeed_config import exchanges_early
from overproof.training.domain.order import MicroBatches, validation_batches
from overproof.training.domain.packing import PackedBatches
from overproof.training.domain.validation import Validation
from overproof.training.job import Job, write_whole
from overproof.training.resume import MADE_BY

NO_LOSS = -100
"""torch's cross-entropy leaves labels of this value out."""
Order = MicroBatches | PackedBatches
PADDING = 0
"""Any id will do: no token attends to padding, and it is not in the loss."""


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of TokenRows, padded on the right to the longest: input_ids, and labels (of the completion and its end only).

    There is no attention mask: attention is causal, so no token sees the padding behind it, and the kernels without a mask are faster.
    `logits_to_keep` leaves the prompts that all rows share out of the output layer; labels are as wide as the logits.
    """
    width = max(len(row["ids"]) for row in rows)
    kept = (
        width - min(row["n_prompt"] for row in rows) + 1
    )  # from the last prompt token on, which predicts the first supervised one
    ids = torch.full((len(rows), width), PADDING, dtype=torch.long)
    labels = torch.full_like(ids, NO_LOSS)
    for i, row in enumerate(rows):
        n, tokens = len(row["ids"]), torch.from_numpy(row["ids"].astype("int64"))
        ids[i, :n] = tokens
        labels[i, row["n_prompt"] : n] = tokens[row["n_prompt"] :]
    return {"input_ids": ids, "labels": labels[:, -kept:], "logits_to_keep": kept}


def collate_packed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of TokenRows laid end to end in one: input_ids, position_ids that begin anew with each row, labels [1, tokens],
    for `packed_attention` row_ends [rows + 1] and the longest row's tokens, and for the loss `predicting`: the places before supervised
    tokens, which only a CPU finds without waiting."""
    lengths = [len(row["ids"]) for row in rows]
    ids = torch.cat([torch.from_numpy(row["ids"].astype("int64")) for row in rows])
    labels = ids.clone()
    ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
    for start, row in zip(ends.tolist(), rows, strict=False):
        labels[start : start + row["n_prompt"]] = NO_LOSS  # a row's last token does not predict the next row's first
    positions = torch.cat([torch.arange(n) for n in lengths])
    packed = {"input_ids": ids[None], "position_ids": positions[None], "labels": labels[None]}
    predicting = (labels[1:] != NO_LOSS).nonzero().flatten()
    return packed | {"row_ends": ends, "longest": max(lengths), "predicting": predicting}


class StudentTrainer(Trainer):  # type: ignore[misc]
    """Trainer whose rows come in the order of `domain.order`, sharded over processes by ourselves."""

    def __init__(
        self, order: Order, batch: Batch, budget: int | None, train: TokenRows, val: TokenRows, **more: Any
    ) -> None:
        self._collate = collate_packed if budget else collate
        super().__init__(
            train_dataset=train, eval_dataset=val if len(val) else None, data_collator=self._collate, **more
        )
        if not hasattr(self.model, "peft_config"):  # Trainer has no argument for it; adapters are small
            self.model.save_pretrained = partial(self.model.save_pretrained, max_shard_size=checkpointing.SHARD)
        self.control: TrainerControl
        self.order = order
        self.tokens_after: list[int] = []
        self.supervised: list[int] = []
        self._untold: late.StepFigures | None = None
        self._batch = batch
        self._budget = budget

    def get_train_dataloader(self) -> DataLoader[Any]:
        """All micro-batches of this process, from the first step to the last: to Trainer, one long epoch.

        Made where they are used: rows lie mapped in memory, and a thread that fetched them would take Python from the one that launches kernels."""
        return DataLoader(
            self.train_dataset,
            batch_sampler=self.order,
            collate_fn=self._collate,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW as Trainer makes it, in the groups of `domain.groups`."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        optimizer.param_groups = [
            group | {"params": group["params"][piece]}
            for group in optimizer.param_groups
            for piece in groups.cut([one.numel() for one in group["params"]])
        ]
        return optimizer

    def _prepare_input(self, data: Any) -> Any:
        """Batches on their way to the GPU while Python launches what comes after: Trainer would wait for every pass before."""
        return data.to(self.args.device, non_blocking=True) if torch.is_tensor(data) else super()._prepare_input(data)

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: torch.device) -> int:
        """Supervised tokens of the step over all processes. Trainer would count its own and gather, while the GPU waits."""
        step: int = self.state.global_step
        return self.supervised[step]

    def _clip_grad_norm(self, model: Any) -> None:
        """DeepSpeed has clipped."""

    def _get_grad_norm(self, model: Any, grad_norm: Any = None) -> late.Figure:
        return self.deepspeed.get_global_grad_norm()

    def training_step(self, *args: Any, **more: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **more)
        self._tell()  # of the step before: the GPU has this pass to do meanwhile
        return loss

    def _maybe_log_save_evaluate(
        self, tr_loss: torch.Tensor, grad_norm: late.Figure, *args: Any, learning_rate: float | None = None, **more: Any
    ) -> None:
        """As Trainer, which reads the figures of a step at its end; here that is done when somebody may look back at them, else later."""
        if self.control.should_log:
            loss = nested_gather(tr_loss, self.args.parallel_mode).mean()
            self._untold = late.sent(
                self.state.global_step, self.state.epoch, loss=loss, grad_norm=grad_norm, learning_rate=learning_rate
            )
            tr_loss.zero_()
            self.control.should_log = False
        at_the_end = self.state.global_step >= self.state.max_steps or self.control.should_training_stop
        if at_the_end or self.control.should_evaluate or self.control.should_save:
            self._tell()
        super()._maybe_log_save_evaluate(tr_loss, grad_norm, *args, learning_rate=learning_rate, **more)

    def _tell(self) -> None:
        """Log what has not been logged, as of its own step."""
        if self._untold is None:
            return
        figures, self._untold = self._untold, None
        now = (self.state.global_step, self.state.epoch)
        self.state.global_step, self.state.epoch = figures.step, figures.epoch
        try:
            logs = figures.read()
            self._total_loss_scalar += logs["loss"]
            self.log(logs)
        finally:
            self.state.global_step, self.state.epoch = now

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted here: `domain.compute` does. Trainer would walk through all weights after every pass, while the GPU waits."""
        return 0

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """Leave out what is the same weight under a second name (an output layer tied to the embedding): DeepSpeed copies both."""
        once = {name for name, _ in self.model.named_parameters()}
        twice = {name for name, _ in self.model.named_parameters(remove_duplicate=False)} - once
        kept = None if state_dict is None else {name: one for name, one in state_dict.items() if name not in twice}
        super()._save(output_dir, kept)

    def validations(self) -> list[Validation]:
        """All validations so far, those before a restart too."""
        return validations(self.state)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Validation loss: the mean over the supervised tokens of all validation rows, whatever the batches are."""
        metrics = {f"{metric_key_prefix}_loss": self._validation_loss()}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _validation_loss(self) -> float:
        model = self.model_wrapped
        model.eval()
        sums = torch.zeros(2, dtype=torch.float64, device=self.args.device)  # loss x tokens, tokens
        lengths, rank = self.eval_dataset.lengths, self.args.process_index
        for rows, counts in validation_batches(lengths, self._batch, rank, self._budget):
            inputs = self._prepare_inputs(self._collate([self.eval_dataset[row] for row in rows]))
            with torch.no_grad():
                loss = model(**inputs).loss.double()
            if counts:
                n_tokens = (inputs["labels"][:, 1:] != NO_LOSS).sum()
                sums += torch.stack([loss * n_tokens, n_tokens.double()])
        model.train()
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(sums)
        return float(sums[0] / sums[1])


class Start(TrainerCallback):  # type: ignore[misc]
    """What DeepSpeed's engine gets once it is there, and a checkpoint is loaded into it."""

    def __init__(self, trainer: StudentTrainer, job: Job) -> None:
        self._trainer = trainer
        self._job = job

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        exchange.counters_beside_weights(self._trainer.optimizer)
        clipping.keep_norm(self._trainer.deepspeed)
        if exchanges_early(self._job.options):
            exchange.attach(self._trainer.deepspeed)


class Journal(TrainerCallback):  # type: ignore[misc]
    """Appends one line per optimizer step and validation to `metrics.jsonl`; stops a training whose loss is no number."""

    def __init__(self, job: Job, schedule: Schedule, tokens_after: list[int], flops: list[float], gpus: int) -> None:
        self._path = job.metrics
        self._event_files = EventFiles(job.event_files)
        self._schedule = schedule
        self._tokens_after = tokens_after
        self._flops = flops
        self._gpus = gpus
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
        now, (first_step, began) = time.monotonic(), self._began
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


def _must_be_finite(step: int, line: dict[str, float]) -> None:
    bad = [name for name in ("loss", "grad_norm", "val_loss") if not math.isfinite(line.get(name, 0.0))]
    if line.get("grad_norm", 0.0) < 0:  # DeepSpeed writes -1 for a norm that is no number
        bad.append("grad_norm")
    if bad:
        raise UserError(
            f"The training diverged: {bad[0]} is {line[bad[0]]} at step {step}.",
            "Lower training.learning_rate, raise training.warmup_share, or set training.dtype to float32.",
        )
