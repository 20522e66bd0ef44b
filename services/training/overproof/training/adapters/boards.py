"""Shows the figures of `metrics.jsonl` elsewhere: TensorBoard event files always, W&B and MLflow where the settings say so.

None of it may change or end a training: what a board raises is logged once, and the board is left alone from then on.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from transformers import TrainerCallback

from overproof.training.job import Job, write_whole

log = logging.getLogger(__name__)

TAGS = {
    "loss": "train/loss", "val_loss": "val/loss", "learning_rate": "train/learning_rate", "grad_norm": "train/grad_norm",
    "tokens": "train/tokens", "tokens_per_second": "speed/tokens_per_second", "mfu": "speed/mfu", "memory_bytes": "speed/memory_bytes",
    "probe_tokens_mean": "probe/tokens_mean", "probe_truncated_share": "probe/truncated_share",
}  # fmt: skip
"""Figure → its name in TensorBoard, where the part before the slash is a group."""


class EventFiles:
    """TensorBoard's event files; the lines of a step that a restart makes again replace the old ones.

    Written here and now, not by tensorboardX's thread: when that one dies of a full disk, the training would wait for it forever.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: EventsWriter | None = None
        self._left_out = False

    def show(self, step: int, figures: dict[str, float]) -> None:
        """One line of the journal."""
        if self._left_out:
            return
        try:
            self._write(step, figures)
        except Exception as error:  # whatever the disk or tensorboardX raises
            log.warning("TensorBoard is left out from here on: %s", error)
            self._left_out = True

    def _write(self, step: int, figures: dict[str, float]) -> None:
        if self._writer is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._writer = EventsWriter(str(self._folder / "events"))
            if step:  # what an earlier attempt showed from here on is taken back
                self._writer.write_event(
                    Event(wall_time=time.time(), step=step, session_log=SessionLog(status=SessionLog.START))
                )
        values = [Summary.Value(tag=TAGS[name], simple_value=figures[name]) for name in TAGS if name in figures]
        self._writer.write_event(Event(wall_time=time.time(), step=step, summary=Summary(value=values)))
        self._writer.flush()


class Guarded(TrainerCallback):  # type: ignore[misc]
    """A board that may be out of reach: its first error is logged and ends it, not the training.

    Which of the board's runs shows the training is kept in a file, so that the next attempt goes on in the same one.
    """

    def __init__(self, name: str, board: TrainerCallback, run: Path, run_id: Callable[[], str]) -> None:
        self._name = name
        self._board: TrainerCallback | None = board
        self._run = run
        self._run_id = run_id

    def on_train_begin(self, args: Any, state: Any, *arguments: Any, **more: Any) -> None:
        self._pass_on("on_train_begin", args, state, *arguments, **more)
        if self._board is not None and state.is_world_process_zero:
            self._guard(lambda: write_whole(self._run, self._run_id()))

    def on_log(self, *arguments: Any, **more: Any) -> None:
        self._pass_on("on_log", *arguments, **more)

    def on_train_end(self, *arguments: Any, **more: Any) -> None:
        self._pass_on("on_train_end", *arguments, **more)

    def _pass_on(self, event: str, *arguments: Any, **more: Any) -> None:
        if self._board is not None:
            self._guard(partial(getattr(self._board, event), *arguments, **more))

    def _guard(self, act: Callable[[], Any]) -> None:
        try:
            act()
        except Exception as error:  # whatever another company's client raises
            log.warning("%s is left out from here on: %s", self._name, error)
            self._board = None


def boards(job: Job) -> list[Guarded]:
    """W&B and MLflow, where they are asked for: to be added behind the one that completes the figures (`Journal`)."""
    found: list[Guarded] = []
    if "wandb" in job.report_to:
        from transformers.integrations import WandbCallback

        os.environ.setdefault("WANDB_DIR", str(job.scratch))
        os.environ.setdefault("WANDB_PROJECT", "overproof")
        os.environ["WANDB_LOG_MODEL"] = "false"  # the student goes to the storage and nowhere else
        os.environ.setdefault("WANDB_RESUME", "allow")  # the run of an earlier attempt, or a new one
        found.append(Guarded("W&B", WandbCallback(), _known(job, "WANDB_RUN_ID"), _run_of_wandb))
    if "mlflow" in job.report_to:
        from transformers.integrations import MLflowCallback

        os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", "overproof")
        os.environ["HF_MLFLOW_LOG_ARTIFACTS"] = "false"
        found.append(Guarded("MLflow", MLflowCallback(), _known(job, "MLFLOW_RUN_ID"), _run_of_mlflow))
    return found


def _known(job: Job, variable: str) -> Path:
    """Where the id of the board's run is kept; the board's own variable is set to that of an earlier attempt, if it says nothing else."""
    path = job.scratch / variable
    if path.is_file():
        os.environ.setdefault(variable, path.read_text())
    return path


def _run_of_wandb() -> str:
    return str(import_module("wandb").run.id)


def _run_of_mlflow() -> str:
    return str(import_module("mlflow").active_run().info.run_id)
