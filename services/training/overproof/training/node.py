"""One node of several: becomes torchrun, which finds the others by what the environment says of them.

python -m overproof.training.node JOB.json

Kubeflow's Trainer (TrainJob) sets PET_NNODES, PET_NODE_RANK, PET_NPROC_PER_NODE, PET_MASTER_ADDR and PET_MASTER_PORT, which torchrun reads
itself; its PyTorchJob, and whoever starts nodes by hand, sets WORLD_SIZE, RANK, MASTER_ADDR and MASTER_PORT. All nodes see the job's
folder at the same path: there lie the rows, the checkpoints and what each process died of.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from overproof.shared.errors import UserError
from overproof.training import checkpointing, launcher, resume
from overproof.training.failures import reported
from overproof.training.job import Job
from overproof.training.tether import PARENT


def rendezvous(job: Job, environ: Mapping[str, str]) -> dict[str, str]:
    """torchrun's PET_ variables. Raises UserError when the nodes and the job's processes do not fit together."""
    nodes = _number(environ, "PET_NNODES", "WORLD_SIZE")
    rank = _number(environ, "PET_NODE_RANK", "RANK", default=0)
    each, rest = divmod(job.options.processes, nodes)
    told = environ.get("PET_NPROC_PER_NODE", "")  # a number, or `auto` and the like
    if rest or (told.isdigit() and int(told) != each):
        raise UserError(
            f"training.processes {job.options.processes} do not go into {nodes} nodes of {told if told.isdigit() else 'equal'} processes.",
            "Make nodes times processes per node training.processes (or OVERPROOF_TRAINING_PROCESSES).",
        )
    address = environ.get("PET_MASTER_ADDR") or environ.get("MASTER_ADDR")
    if nodes > 1 and not address:
        raise UserError("The nodes are not told where the first of them is.", "Set PET_MASTER_ADDR or MASTER_ADDR.")
    return {
        "PET_NNODES": str(nodes),
        "PET_NODE_RANK": str(rank),
        "PET_NPROC_PER_NODE": str(each),
        "PET_MASTER_ADDR": address or "127.0.0.1",
        "PET_MASTER_PORT": environ.get("PET_MASTER_PORT") or environ.get("MASTER_PORT") or "29500",
    }


def _number(environ: Mapping[str, str], *names: str, default: int = 1) -> int:
    name = next((one for one in names if environ.get(one)), None)
    if name is None:
        return default
    if not environ[name].isdigit():
        raise UserError(
            f"{name} is {environ[name]!r}: a training has a fixed number of nodes.",
            "Set it to a number; elastic jobs are not followed.",
        )
    return int(environ[name])


def main() -> None:
    """Go on from the newest complete checkpoint, also when the nodes were started again."""
    path = Path(sys.argv[1])
    job = Job.load(path)
    with reported(job.scratch, int(os.environ.get("PET_NODE_RANK") or os.environ.get("RANK") or 0)):
        told = rendezvous(job, os.environ)
        # the first node takes back what came after the checkpoint; the others wait for it in torchrun's rendezvous
        checkpoint = _first(job, path) if told["PET_NODE_RANK"] == "0" else checkpointing.newest_intact(job.checkpoints)
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
    # this process becomes torchrun: its ranks are tied to it, and die with it
    given = {name: value for name, value in os.environ.items() if name.startswith(launcher.NODES)}
    environ = launcher.environment(job.threads) | given | told | {PARENT: str(os.getpid())}
    os.execve(command[0], command, environ)  # noqa: S606 - an argument list of our own making


def _first(job: Job, path: Path) -> Path | None:
    checkpoint = resume.make_ready(job)
    if checkpoint and resume.is_cut_for_others(job, checkpoint):
        command = [sys.executable, "-m", "overproof.training.universal", str(path), str(checkpoint)]
        done = subprocess.run(command, check=False, env=launcher.environment(job.threads))
        if done.returncode:
            sys.exit(done.returncode)  # it has left its reason, which must not be written over
    return checkpoint


if __name__ == "__main__":
    main()
