"""Child process: a checkpoint of so many processes → one that any number can go on from (DeepSpeed's universal checkpoint).

python -m overproof.training.universal JOB.json CHECKPOINT

(Universal Checkpointing, Lian et al. 2024, arXiv 2406.18820.)
"""

from __future__ import annotations

import os
import shutil
import sys
from argparse import Namespace
from pathlib import Path

from overproof.shared.errors import UserError
from overproof.training.checkpointing import MARKER, link_or_copy
from overproof.training.failures import reported
from overproof.training.job import Job
from overproof.training.resume import processes_of, universal_of

NOT_THREE = "under ZeRO 3, DeepSpeed would go on with another optimizer state"
"""DeepSpeed 0.19 gives all groups of weights one step counter, which each of them raises, and the first group's weight decay: seen in its
`load_hp_checkpoint_state_from_checkpoint_dir_stage3`, and as losses that are 5 % off after 25 steps."""

NOT_EIGHT_BITS = "the moments of adamw_8bit lie in blocks that are cut for those"
"""DeepSpeed's universal checkpoint knows the two moments by AdamW's names, in the shapes of the weights."""


def convert(job: Job, checkpoint: Path) -> Path:
    """Make `universal/checkpoint-<step>/` anew; returns it. Raises UserError when DeepSpeed cannot, with what else there is to do."""
    if job.options.zero_stage == 3:
        raise _refusal(job, checkpoint, NOT_THREE)
    if job.options.optimizer == "adamw_8bit":
        raise _refusal(job, checkpoint, NOT_EIGHT_BITS)
    target = universal_of(job, checkpoint)
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for file in checkpoint.iterdir():  # the trainer's state; random states are of processes that are no more
        if file.is_file() and file.name != MARKER and not file.name.startswith("rng_state"):
            link_or_copy(file, target / file.name)
    tag = (checkpoint / "latest").read_text().strip()
    try:
        _convert(checkpoint / tag, target / f"{tag}_universal")
    except Exception as error:
        shutil.rmtree(target)
        raise _refusal(job, checkpoint, repr(error)) from error
    return target


def _refusal(job: Job, checkpoint: Path, reason: str) -> UserError:
    made_by = processes_of(checkpoint)
    return UserError(
        f"{checkpoint.name} was made by {made_by} processes and cannot be cut for {job.options.processes}: {reason}.",
        f"Train with {made_by} (OVERPROOF_TRAINING_PROCESSES), or delete {job.checkpoints} to begin again, and resume the run.",
    )


def _convert(source: Path, target: Path) -> None:
    os.environ.setdefault("DS_ACCELERATOR", "cpu")
    from deepspeed.checkpoint import ds_to_universal

    options = Namespace(
        input_folder=str(source), output_folder=str(target), num_extract_workers=1, num_merge_workers=1, keep_temp_folder=False,
        strict=True, inject_missing_state=True,
    )  # fmt: skip
    ds_to_universal.main(options)


if __name__ == "__main__":
    the_job = Job.load(Path(sys.argv[1]))
    with reported(the_job.scratch, 0):
        convert(the_job, Path(sys.argv[2]))
