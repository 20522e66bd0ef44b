"""Starts a child, watches it, and ends it and all its descendants when the work is no longer wanted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Event

from overproof.shared import gpu_memory, settings
from overproof.shared.errors import EngineUnavailable, Stopped
from overproof.training.failures import explain, forget
from overproof.training.job import Job
from overproof.training.settings import TrainingSettings

SECONDS_BETWEEN_LOOKS = 0.2
SECONDS_TO_END = 10.0
"""torchrun gets this long to end its ranks and remove its files; after that the kernel ends them (see `tether`)."""
LOG_TAIL_BYTES = 20_000
SECRETS = (*settings.SECRETS, "REDIS_URL")
"""A training needs none."""
NODES = "PET_"
"""torchrun reads variables that begin so, and would wait for other nodes: `node.py` alone is one of several."""


def torchrun(processes: int, module: str, *arguments: str) -> list[str]:
    """Command line of a process group on this machine. It is never restarted by torchrun: the worker does that."""
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}", "--max_restarts=0",
        "-m", module, *arguments,
    ]  # fmt: skip


def environment(threads: int) -> dict[str, str]:
    """What the children see: this environment without secrets, offline, with `threads` CPU threads per process, and the GPUs that
    OVERPROOF_TRAINING_GPUS names (else those of CUDA_VISIBLE_DEVICES, else all)."""
    gpus = TrainingSettings().training_gpus
    own = {name: value for name, value in os.environ.items() if name not in SECRETS and not name.startswith(NODES)}
    gpu_memory.count_as_nvidia_smi_does(own)  # the GPUs that were waited for
    return own | {
        "OMP_NUM_THREADS": str(threads),
        # threads that spin while they wait take the cores from the other services: three times the CPU seconds, measured on two cores
        "OMP_WAIT_POLICY": "PASSIVE",
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "true",
        "TRANSFORMERS_VERBOSITY": "error",
        "DS_LOG_LEVEL": "error",
        "PYTHONUNBUFFERED": "1",
        **({"CUDA_VISIBLE_DEVICES": gpus} if gpus else {}),
    }


def run_child(module: str, job: Job, stop: Event, stall_seconds: float, *arguments: str) -> None:
    """Run `python -m module JOB.json ...` to its end; raises what `run` raises."""
    command = [sys.executable, "-m", module, str(job.scratch / "job.json"), *arguments]
    run(command, job.scratch, job.log, job.threads, stop, lambda: False, stall_seconds)


def run(
    command: list[str],
    scratch: Path,
    log: Path,
    threads: int,
    stop: Event,
    look: Callable[[], bool],
    stall_seconds: float,
) -> None:
    """Run the command to its end, calling `look` (did anything happen?) several times a second.

    Raises Stopped, after every descendant is gone, when `stop` is set; EngineUnavailable when nothing happened for
    `stall_seconds` or a process died; and whatever OverproofError the child gave up with.
    """
    forget(scratch)
    said_before = log.stat().st_size if log.is_file() else 0
    with log.open("ab") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "overproof.training.tether", str(os.getpid()), *command],
            stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=environment(threads), start_new_session=True,
        )  # fmt: skip
    try:
        _watch(child, stop, look, stall_seconds)
    finally:
        _end(child)
    look()
    if child.returncode:
        raise explain(scratch, child.returncode, _tail(log, said_before))


def _watch(child: subprocess.Popen[bytes], stop: Event, look: Callable[[], bool], stall_seconds: float) -> None:
    heard = time.monotonic()
    while child.poll() is None:
        if stop.wait(SECONDS_BETWEEN_LOOKS):
            raise Stopped("The training was stopped.")
        if look():
            heard = time.monotonic()
        elif time.monotonic() - heard > stall_seconds:
            raise EngineUnavailable(
                f"The training made no step for {stall_seconds:.0f} s and was ended.",
                "It goes on from its last checkpoint; look for a hung device or disk.",
            )


def _end(child: subprocess.Popen[bytes]) -> None:
    """No process of the group is left when this returns: those that do not listen lose their parent, and die of it."""
    if child.poll() is None:
        child.terminate()
        with suppress(subprocess.TimeoutExpired):
            child.wait(SECONDS_TO_END)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _tail(log: Path, start: int) -> str:
    """The last of what came after byte `start`: earlier attempts died of something else."""
    with log.open("rb") as file:
        file.seek(max(start, log.stat().st_size - LOG_TAIL_BYTES))
        return file.read().decode(errors="replace")
