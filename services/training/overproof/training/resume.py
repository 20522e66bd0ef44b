"""From where a training goes on: the newest intact checkpoint, with everything that came after it taken back.

Whoever starts the processes calls `make_ready` first: the worker for a group of its own machine, the first node on a cluster.
"""

from __future__ import annotations

import json
from pathlib import Path

from overproof.training import checkpointing
from overproof.training.failures import forget
from overproof.training.job import Job

MADE_BY = "made_by.json"
"""In every checkpoint: how many processes wrote it."""
BEFORE_ANYTHING = -1
"""A probe comes before the first step: its line has step 0."""


def make_ready(job: Job) -> Path | None:
    """The checkpoint to go on from, None at the beginning. What an earlier attempt left behind it is gone afterwards."""
    forget(job.scratch)
    job.setup.unlink(missing_ok=True)
    checkpoint = checkpointing.newest_complete(job.checkpoints)
    kept = checkpointing.step_of(checkpoint) if checkpoint else BEFORE_ANYTHING
    checkpointing.rewind(job.metrics, kept)
    checkpointing.forget_probes(job.probes, job.checkpoints, kept)
    if checkpoint and job.options.choose_by == "accuracy" and job.probe_of(kept).is_file():
        _keep_weights(checkpoint)
    return checkpoint


def _keep_weights(checkpoint: Path) -> None:
    """The process that wrote the checkpoint may have died before it gave the weights their second name."""
    if not checkpoint.with_name(checkpointing.weights_name(checkpointing.step_of(checkpoint))).is_dir():
        checkpointing.keep_weights(checkpoint)


def processes_of(checkpoint: Path) -> int | None:
    """How many processes wrote it, each its own part of the optimizer's state; None: it does not say."""
    path = checkpoint / MADE_BY
    return int(json.loads(path.read_text())["processes"]) if path.is_file() else None


def is_cut_for_others(job: Job, checkpoint: Path) -> bool:
    """Whether its parts are for another number of processes than the job has. ZeRO 0 keeps the state whole."""
    return job.options.zero_stage > 0 and processes_of(checkpoint) not in (None, job.options.processes)


def universal_of(job: Job, checkpoint: Path) -> Path:
    """Where the same checkpoint lies for any number of processes, once `universal.py` has made it."""
    return job.scratch / "universal" / checkpoint.name
