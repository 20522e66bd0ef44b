"""The optimizer's groups: how they are cut, and that a training in many groups is the training in one."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overproof.training import launcher
from overproof.training.checkpointing import read_lines
from overproof.training.domain.groups import cut, largest
from overproof.training.job import Job

SMALL = """
import pathlib
import overproof.training.fit as fit
from overproof.training.domain import groups

def cut(sizes, whole=groups.cut):
    pieces = whole(sizes, 5_000)
    with pathlib.Path(__file__).with_name("pieces").open("a") as file:
        file.write(f"{len(pieces)} ")
    return pieces

groups.cut = cut
fit.main()
"""
"""As a model of billions is cut: the tiny student has 60,000 weights."""


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([], []),
        ([3], [slice(0, 1)]),
        ([3, 3, 3], [slice(0, 3)]),
        ([3, 3, 4, 1], [slice(0, 3), slice(3, 4)]),
        ([30, 1, 1], [slice(0, 1), slice(1, 3)]),
        ([1, 30, 1], [slice(0, 1), slice(1, 2), slice(2, 3)]),
        ([0, 0], [slice(0, 2)]),
    ],
)
def test_groups_are_runs_of_neighbours_that_do_not_hold_too_much(sizes: list[int], expected: list[slice]) -> None:
    assert cut(sizes, 10) == expected


def test_largest_group_is_the_limit_or_the_widest_matrix() -> None:
    assert largest(1000, 10) == 1000
    assert largest(2**30, 10) == 2**27
    assert largest(2**30, 2**28) == 2**28


def curve(job: Job) -> list[float]:
    return [line["loss"] for line in read_lines(job.metrics) if "loss" in line]


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "processes"), [("float32", 2), ("bfloat16", 1)])
def test_training_in_many_groups_is_the_training_in_one(
    make_job: Callable[..., Job],
    run_job: Callable[..., Job],
    rows: Callable[..., Any],
    tmp_path: Path,
    dtype: str,
    processes: int,
) -> None:
    job = make_job(rows(40, 8), max_steps=4, dtype=dtype, processes=processes, zero_stage=1)
    expected = curve(run_job(job))
    job.metrics.unlink()
    shutil.rmtree(job.checkpoints)

    (tmp_path / "in_small_groups.py").write_text(SMALL)
    command = launcher.torchrun(processes, "in_small_groups", str(job.scratch / "job.json"))
    paths = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    environment = launcher.environment(1) | {"PYTHONPATH": paths}
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=240)

    assert max(map(int, (tmp_path / "pieces").read_text().split())) > 4
    assert curve(job) == pytest.approx(expected, rel=1e-6)
