"""One node of a TrainJob: becomes torchrun, which finds the other nodes by the PET_ variables that Trainer sets.

python -m overproof.training.node JOB.json
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from overproof.training import checkpointing, launcher
from overproof.training.failures import forget
from overproof.training.job import Job

RANK = "PET_NODE_RANK"


def main() -> None:
    """Go on from the newest complete checkpoint, also when Trainer has started the nodes again."""
    path = Path(sys.argv[1])
    job = Job.load(path)
    checkpoint = _cleared(job) if os.environ.get(RANK, "0") == "0" else checkpointing.newest_intact(job.checkpoints)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--max_restarts=0",
        "-m",
        "overproof.training.fit",
        str(path),
    ]
    command += [str(checkpoint)] if checkpoint else []
    os.execve(command[0], command, launcher.environment(job.threads))  # noqa: S606 - an argument list of our own making


def _cleared(job: Job) -> Path | None:
    """The first node removes what the attempt before it left; the others wait for it in torchrun's rendezvous."""
    forget(job.scratch)
    checkpoint = checkpointing.newest_complete(job.checkpoints)
    checkpointing.rewind(job.metrics, checkpointing.step_of(checkpoint) if checkpoint else 0)
    return checkpoint


if __name__ == "__main__":
    main()
