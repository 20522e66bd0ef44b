"""What a GPU does in two steps of a training as the service runs it: how long it computes, exchanges and waits, and between which kernels.

python benchmarks/training_gaps.py FOLDER [--shape 1.5b|7b] [--rows 145] [--gpus 1] [--options '{"micro_batch_tokens": 8192}'] [--tiny]

Model and rows as in `training.py`, checkpointing and 8,192 tokens per pass unless the options say otherwise. A line per GPU, then the
longest gaps and the kernels that took most time on the first. `alone` is the exchange's time in which nothing else is computed.
`--tiny` runs on a CPU, where there is nothing to see.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.profiler import ProfilerActivity, profile
from training import LONGEST, job_of, make_model, rows_of, shape_of
from transformers import TrainerCallback

from overproof.training import fit, launcher
from overproof.training.job import Job

BEFORE, WATCHED = 4, 2
"""Steps: warm-up, and those that are looked at."""
SHOWN = 16
"""Gaps and kernels."""


class Kernel(NamedTuple):
    """Times in milliseconds."""

    start: float
    end: float
    name: str


def joined(kernels: list[Kernel]) -> list[Kernel]:
    """Stretches without a gap, in order; each has the name of the kernel that ends it."""
    found: list[Kernel] = []
    for one in sorted(kernels):
        if found and one.start <= found[-1].end:
            last = found[-1]
            found[-1] = Kernel(last.start, max(last.end, one.end), one.name if one.end > last.end else last.name)
        else:
            found.append(one)
    return found


def length(stretches: list[Kernel]) -> float:
    """Milliseconds."""
    return sum(one.end - one.start for one in stretches)


def report(rank: int, kernels: list[Kernel]) -> None:
    """Print what the steps consist of."""
    if not kernels:
        print(f"process {rank}: no kernels")
        return
    whole = joined(kernels)
    computing = joined([one for one in kernels if "nccl" not in one.name.lower()])
    wall = whole[-1].end - whole[0].start
    print(
        f"GPU {rank}: {wall / WATCHED:.1f} ms per step, computing {length(computing) / WATCHED:.1f}, exchanging alone "
        f"{(length(whole) - length(computing)) / WATCHED:.1f}, waiting {(wall - length(whole)) / WATCHED:.1f}",
        flush=True,
    )
    if rank:
        return
    gaps = [(after.start - before.end, before, after) for before, after in itertools.pairwise(whole)]
    for milliseconds, before, after in sorted(gaps, reverse=True)[:SHOWN]:
        print(
            f"  gap {milliseconds:8.3f} ms at {before.end - whole[0].start:9.1f}: {before.name[:60]} | {after.name[:60]}"
        )
    totals: dict[str, float] = {}
    for one in kernels:
        totals[one.name] = totals.get(one.name, 0.0) + (one.end - one.start) / WATCHED
    for name, milliseconds in sorted(totals.items(), key=lambda item: -item[1])[:SHOWN]:
        print(f"  {milliseconds:8.2f} ms per step  {name[:100]}")


class Watch(TrainerCallback):  # type: ignore[misc]
    """Profiles some steps, reports, and ends the training."""

    def __init__(self) -> None:
        self._profile = profile(
            activities=[ProfilerActivity.CUDA if torch.cuda.is_available() else ProfilerActivity.CPU]
        )

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.global_step == BEFORE:
            self._profile.start()
        if state.global_step == BEFORE + WATCHED:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self._profile.stop()
            report(int(os.environ["RANK"]), self._kernels())
            control.should_training_stop = True

    def _kernels(self) -> list[Kernel]:
        on_gpu = [one for one in self._profile.events() or [] if one.device_type == torch.autograd.DeviceType.CUDA]
        return [Kernel(one.time_range.start / 1e3, one.time_range.end / 1e3, one.name) for one in on_gpu]


def watch(job: Job) -> None:
    """As one process of the group: the service's own training, with a callback more."""
    unwatched = fit._trainer

    def watched(*args: Any, **more: Any) -> Any:
        trainer, schedule = unwatched(*args, **more)
        trainer.add_callback(Watch())
        return trainer, schedule

    fit._trainer = watched
    fit.fit(job, None)


def main() -> None:
    """Prepare a training and run it, watched."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=["1.5b", "7b"], default="1.5b")
    parser.add_argument("--rows", type=int, default=145)
    parser.add_argument("--gpus", type=int, default=1)
    parser.add_argument("--options", type=json.loads, default={})
    parser.add_argument("--tiny", action="store_true")
    given = parser.parse_args()
    longest = 512 if given.tiny else LONGEST
    given.folder.mkdir(parents=True, exist_ok=True)
    if not (given.folder / "model").exists():
        make_model(given.folder / "model", shape_of(given))
        torch.cuda.empty_cache()
    rows = rows_of(4000, int(shape_of(given)["vocab_size"]), longest)
    options = {
        "micro_batch_tokens": 2 * longest,
        "gradient_checkpointing": True,
        "processes": given.gpus,
    } | given.options
    job = job_of(given.folder, options, rows, given.rows, longest)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc_per_node={given.gpus}",
        __file__,
    ]
    subprocess.run([*command, str(job.save())], env=launcher.environment(1), check=True)


if __name__ == "__main__":
    if "RANK" in os.environ:
        watch(Job.load(Path(sys.argv[1])))
    else:
        main()
