"""Child process: a trained adapter + its base → an ordinary checkpoint in `merged/`.

python -m overproof.training.merge JOB.json CHECKPOINT

A process of its own: in one that trains with ZeRO 3, every model would be loaded in pieces.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from overproof.training.failures import reported
from overproof.training.job import Job
from overproof.training.setup import leave_out_unused


def merge(job: Job, checkpoint: Path) -> None:
    """Make `merged/` anew: nothing tells whether one that is there is whole."""
    leave_out_unused(job.options)
    from overproof.training.adapters import lora

    shutil.rmtree(job.merged, ignore_errors=True)
    lora.merge(job.student, checkpoint, job.merged, job.options)


if __name__ == "__main__":
    the_job = Job.load(Path(sys.argv[1]))
    with reported(the_job.scratch, 0):
        merge(the_job, Path(sys.argv[2]))
