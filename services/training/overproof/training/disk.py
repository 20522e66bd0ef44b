"""A training begins only where its checkpoints have room on the disk: without it each attempt would lose what it trained since the last one."""

from __future__ import annotations

import json
import logging
import math
import shutil

from overproof.shared.errors import StorageUnavailable
from overproof.training.checkpointing import KEPT, PREFIX
from overproof.training.domain.estimate import GIB, checkpoint_bytes
from overproof.training.job import Job

log = logging.getLogger(__name__)

FOR_SURE = 0.9
"""Of the bytes that are reckoned: refused is only what cannot go well, as file systems may compress and the student's size is rounded."""


def check_disk(job: Job) -> None:
    """Warns in the log where the disk may become too small for the checkpoints that exist at once.

    Raises StorageUnavailable where it is too small for those that `save_every_steps` alone makes. Adapters are not looked at: they are small.
    """
    if job.options.lora:
        return
    schedule = json.loads(job.preflight.read_text())["schedule"]
    saves = math.ceil(schedule["steps"] / schedule["save_every"])
    each, room = checkpoint_bytes(job.n_trained, job.options), _room(job)
    sure = min(saves, KEPT + 1) * each  # the oldest goes when the newest is complete
    most = (KEPT + 1 + (job.options.choose_by != "last")) * each
    if room < FOR_SURE * sure:
        raise StorageUnavailable(
            f"The checkpoints of the training need about {sure / GIB:.1f} GiB in {job.scratch}, and there is room for {room / GIB:.1f}.",
            "Free some space there; the training begins by itself.",
        )
    if room < most:
        log.warning(
            "the disk of %s may become full: checkpoints take up to %.1f GiB, and there is room for %.1f",
            job.scratch, most / GIB, room / GIB,
        )  # fmt: skip


def _room(job: Job) -> int:
    """Bytes that are free, or taken by checkpoints that make room for others."""
    taken = sum(file.stat().st_size for file in job.checkpoints.glob(f"{PREFIX}*/**/*") if file.is_file())
    return shutil.disk_usage(job.scratch).free + taken
