"""One training as the child processes get it: a JSON file in the scratch folder, and the names of what they leave there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

from overproof.shared.recipe import PromptOptions, TrainingOptions
from overproof.training.domain.estimate import Sizes, trained_weights

PREPARED_VERSION = "3"
"""Raised when the prepared files change, so that files of an older version are made again."""


class Job(BaseModel):
    """Everything that the child processes need to know.

    scratch/
        job.json                  this
        train.tokens, val.tokens  token ids (int32), row after row;  train.rows.npy, val.rows.npy  (prompt, total) tokens per row
        check.json                what a check found
        rows.json                 what the rows showed while they became tokens
        preflight.json            the same with batch, schedule and estimate for this number of processes
        rendered_samples.json     three rows as the model will see them
        probe.json                the probe's problems (prompt tokens, gold answers), and the tokens that end a solution
        PREPARED                  written last by `prepare`
        checkpoints/checkpoint-<step>/   with COMPLETE.json, written last; after LoRA of the adapter only
        merged/                   after LoRA: the student, adapter and base in one
        checkpoints/weights-<step>/      weights that a probe may yet choose; nothing to go on from
        probes/step-<step>.json   what the student wrote after that step
        probes.jsonl              all of them, with their verdicts
        tensorboard/              event files of the same figures
        metrics.jsonl             one line per optimizer step, validation or probe
        setup.json                on what it runs: devices, attention, world size
        universal/checkpoint-<step>/     a checkpoint that another number of processes can go on from
        result.json               written last by `fit`: the training is over and this is the student
        error-<rank>.json         why a child gave up;  log.txt  what the children printed
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    scratch: Path
    storage: str
    selected: str
    """Reference of the selected rows; of a check, which comes before any is selected: of the problems."""
    problems: str | None = None
    """Reference of the problems that they solve, for the gold answers of a probe."""
    student: Path
    """The checkpoint to start from."""
    context: int | None
    """Positions that the student has; None: unknown."""
    vocab_size: int | None
    n_parameters: int
    """Estimated from the size of the weights: for bucket sizes only."""
    options: TrainingOptions
    threads: int
    """CPU threads per process."""
    here: bool = True
    """Whether the process group runs on this machine; else its GPUs are not known in advance."""
    needs_gpus: bool = False
    """Whether nodes were asked for with GPUs: without them it must not go on, on their CPUs and for weeks."""
    prompt: PromptOptions | None = None
    """Of a check: how problems will become prompts."""
    title: str = "training"
    """How boards name it."""
    report_to: tuple[str, ...] = ()
    """Boards besides TensorBoard."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a job file."""
        return cls.model_validate_json(path.read_bytes())

    def save(self) -> Path:
        """Write the job file; returns its path."""
        path = self.scratch / "job.json"
        write_whole(path, self.model_dump_json(indent=1))
        return path

    @property
    def limit(self) -> int:
        """Prompt + completion tokens that a row may have."""
        return min(self.options.max_length, self.context or self.options.max_length)

    @property
    def sizes(self) -> Sizes | None:
        """The student's dimensions; None where its config is of another kind."""
        return Sizes.of(json.loads((self.student / "config.json").read_text()))

    @property
    def n_trained(self) -> int:
        """Weights that get a gradient, about."""
        return trained_weights(self.sizes, self.n_parameters, self.options)

    @property
    def checkpoints(self) -> Path:
        return self.scratch / "checkpoints"

    @property
    def merged(self) -> Path:
        return self.scratch / "merged"

    @property
    def metrics(self) -> Path:
        return self.scratch / "metrics.jsonl"

    @property
    def limited_by(self) -> str:
        """What sets `limit`, for people."""
        return "training.max_length" if self.limit == self.options.max_length else "the student's context"

    @property
    def check(self) -> Path:
        return self.scratch / "check.json"

    @property
    def preflight(self) -> Path:
        return self.scratch / "preflight.json"

    @property
    def samples(self) -> Path:
        return self.scratch / "rendered_samples.json"

    @property
    def result(self) -> Path:
        return self.scratch / "result.json"

    @property
    def event_files(self) -> Path:
        return self.scratch / "tensorboard"

    @property
    def log(self) -> Path:
        return self.scratch / "log.txt"

    @property
    def probe(self) -> Path:
        return self.scratch / "probe.json"

    @property
    def setup(self) -> Path:
        return self.scratch / "setup.json"

    @property
    def solutions(self) -> Path:
        return self.scratch / "probes.jsonl"

    @property
    def probes(self) -> Path:
        return self.scratch / "probes"

    def probe_of(self, step: int) -> Path:
        """What the student wrote after `step`."""
        return self.probes / f"step-{step:07d}.json"

    @property
    def prepared(self) -> Path:
        return self.scratch / "PREPARED"

    @property
    def rows(self) -> Path:
        return self.scratch / "rows.json"

    @property
    def preparation(self) -> str:
        """What `PREPARED` says in the end: of which version the files are, and for how many processes the report."""
        return f"{PREPARED_VERSION} {self.options.processes}"

    def has_tokens(self) -> bool:
        """Whether an earlier attempt has made tokens of the rows; the job's artifact never changes, so they still hold."""
        return self.prepared.is_file() and self.prepared.read_text().split(" ")[0] == PREPARED_VERSION

    def is_prepared(self) -> bool:
        """Whether an earlier attempt has made the tokens, and the report for this number of processes."""
        return self.prepared.is_file() and self.prepared.read_text() == self.preparation


class Result(BaseModel):
    """What `fit` leaves."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    checkpoint: str
    """Name of the folder below `checkpoints` that is the student."""
    step: int
    """Optimizer steps behind the student's weights."""
    steps: int
    """Optimizer steps that were made."""
    stopped_early: bool
    train_loss: float
    """Mean of the last steps of training."""
    val_loss: float | None
    """Of the student; None when it was not computed at its step."""
    validations: tuple[tuple[int, float], ...]
    """(step, loss)."""
    probes: tuple[dict[str, Any], ...] = ()
    """step and figures of every probe that was judged."""
    chosen_for: str = ""
    """Why these weights are the student, e.g. `lowest validation loss`."""
    tokens: int
    """Tokens that went through the model in training, prompts included, padding left out."""
    device: str
    versions: dict[str, str]
    setup: dict[str, Any] = {}
    """Processes, nodes, devices and kernels of the attempt that finished."""
    deepspeed: dict[str, Any]
    """The configuration as DeepSpeed got it."""


def write_whole(path: Path, text: str) -> None:
    """Write the file beside and rename it: nobody reads half of it, and it is on the disk before its name exists."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with temporary.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
