"""transformers' Trainer on DeepSpeed, with our own order of rows, loss over the completion only, and validation over every token."""

from __future__ import annotations

import time
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_pt_utils import nested_gather

from overproof.training import checkpointing
from overproof.training.adapters import clipping, exchange, late, zero3
from overproof.training.adapters.collate import NO_LOSS, collate, collate_packed
from overproof.training.adapters.keeper import validations
from overproof.training.adapters.tokens import TokenRows
from overproof.training.domain import groups
from overproof.training.domain.batches import Batch
from overproof.training.domain.deepspeed_config import exchanges_early
from overproof.training.domain.order import MicroBatches, validation_batches
from overproof.training.domain.packing import PackedBatches
from overproof.training.domain.validation import Validation
from overproof.training.job import Job

Order = MicroBatches | PackedBatches


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
        self._told: late.StepFigures | None = None
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
        self.state.global_step, self.state.epoch, self._told = figures.step, figures.epoch, figures
        try:
            logs = figures.read()
            self._total_loss_scalar += logs["loss"]
            self.log(logs)
        finally:
            (self.state.global_step, self.state.epoch), self._told = now, None

    def when(self) -> float:
        """On the monotonic clock: the end of the step that is being logged, else now."""
        return self._told.ended if self._told else time.monotonic()

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
        options = self._job.options
        if exchanges_early(options):
            exchange.attach(self._trainer.deepspeed)
        if options.zero_stage == 3 and options.offload == "none" and not options.deepspeed:
            zero3.go_on_launching(self._trainer.deepspeed)
