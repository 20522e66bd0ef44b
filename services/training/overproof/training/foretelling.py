"""What a training will take, as the preflight reckons it: told before it starts."""

from __future__ import annotations

import json
import logging
from typing import Any

from overproof.shared.specs import TrainSpec
from overproof.shared.work import Work
from overproof.training.job import Job

log = logging.getLogger(__name__)

FORETOLD = ("device_gib", "seconds")
"""Of the preflight's estimate: memory of one process, time of the whole training."""


def foretell(work: Work[TrainSpec], job: Job) -> None:
    """In the log, with what the preflight warns of; in the run's events and in the receipt."""
    preflight = json.loads(job.preflight.read_text())
    for warning in preflight["warnings"]:
        log.warning("before training: %s", warning)
    estimate = preflight["estimate"]
    if estimate is None:
        return
    told = {f"estimated_{name}": estimate[name] for name in FORETOLD if estimate.get(name) is not None}
    tell_unused(job, estimate)
    log.info("the training will take about %s", ", ".join(f"{value:g} {name}" for name, value in told.items()))
    work.progress(phase="prepared", **told)
    work.note(**told)


def tell_unused(job: Job, estimate: dict[str, Any] | None) -> None:
    """In the log, where there are more GPUs than processes: the recipe says how many, and its default is one."""
    n_visible, n_used = (estimate or {}).get("visible_gpus", 0), job.options.processes
    if n_visible > n_used:
        log.info(
            "the training uses %d of the %d GPUs that this worker sees; training.processes, or OVERPROOF_TRAINING_PROCESSES for this machine alone, "
            "says how many",
            n_used,
            n_visible,
        )
