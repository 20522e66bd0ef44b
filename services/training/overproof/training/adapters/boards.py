"""Shows the figures of `metrics.jsonl` elsewhere: TensorBoard event files always, W&B and MLflow where the settings say so.

None of it may change or end a training: what a board raises is logged once, and the board is left alone from then on.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter
from transformers import TrainerCallback

from overproof.training.job import Job

log = logging.getLogger(__name__)

TAGS = {
    "loss": "train/loss", "val_loss": "val/loss", "learning_rate": "train/learning_rate", "grad_norm": "train/grad_norm",
    "tokens": "train/tokens", "tokens_per_second": "speed/tokens_per_second", "mfu": "speed/mfu", "memory_bytes": "speed/memory_bytes",
    "probe_tokens_mean": "probe/tokens_mean", "probe_truncated_share": "probe/truncated_share",
}  # fmt: skip
"""Figure → its name in TensorBoard, where the part before the slash is a group."""


class EventFiles:
    """TensorBoard's event files; the lines of a step that a restart makes again replace the old ones."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def show(self, step: int, figures: dict[str, float]) -> None:
        """One line of the journal."""
        if self._writer is None:
            self._writer = SummaryWriter(str(self._folder), purge_step=step or None)
        for name in figures.keys() & TAGS.keys():
            self._writer.add_scalar(TAGS[name], figures[name], step)
        self._writer.flush()

    def close(self) -> None:
        """Wait until everything is on the disk: a thread writes it."""
        if self._writer is not None:
            self._writer.close()


class Guarded(TrainerCallback):  # type: ignore[misc]
    """A board that may be out of reach: its first error is logged and ends it, not the training."""

    def __init__(self, name: str, board: TrainerCallback) -> None:
        self._name = name
        self._board: TrainerCallback | None = board

    def on_train_begin(self, *arguments: Any, **more: Any) -> None:
        self._pass_on("on_train_begin", *arguments, **more)

    def on_log(self, *arguments: Any, **more: Any) -> None:
        self._pass_on("on_log", *arguments, **more)

    def on_train_end(self, *arguments: Any, **more: Any) -> None:
        self._pass_on("on_train_end", *arguments, **more)

    def _pass_on(self, event: str, *arguments: Any, **more: Any) -> None:
        if self._board is None:
            return
        try:
            getattr(self._board, event)(*arguments, **more)
        except Exception as error:  # whatever another company's client raises
            log.warning("%s is left out from here on: %s", self._name, error)
            self._board = None


def boards(job: Job) -> list[TrainerCallback]:
    """W&B and MLflow, where they are asked for: to be added behind the one that completes the figures (`Journal`)."""
    found: list[TrainerCallback] = []
    if "wandb" in job.report_to:
        from transformers.integrations import WandbCallback

        os.environ.setdefault("WANDB_DIR", str(job.scratch))
        os.environ.setdefault("WANDB_PROJECT", "overproof")
        os.environ["WANDB_LOG_MODEL"] = "false"  # the student goes to the storage and nowhere else
        found.append(Guarded("W&B", WandbCallback()))
    if "mlflow" in job.report_to:
        from transformers.integrations import MLflowCallback

        os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", "overproof")
        os.environ["HF_MLFLOW_LOG_ARTIFACTS"] = "false"
        found.append(Guarded("MLflow", MLflowCallback()))
    return found
