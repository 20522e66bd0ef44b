"""What an attempt that died at a bad moment leaves to the next one, and what that makes of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overproof.shared.recipe import ProbeOptions, TrainingOptions
from overproof.training import checkpointing, resume
from overproof.training.job import Job, Result

PROBED = TrainingOptions(probe=ProbeOptions(every_steps=4), choose_by="accuracy")


def job_in(folder: Path, options: TrainingOptions) -> Job:
    return Job(
        scratch=folder, storage="s", selected="select/x", student=folder, context=None, vocab_size=None, n_parameters=1, threads=1,
        options=options,
    )  # fmt: skip


def leave_checkpoint(job: Job, step: int) -> Path:
    """A complete checkpoint of a probed step, whose weights have not got their second name."""
    checkpoint = job.checkpoints / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "model.safetensors").write_text(f"weights of step {step}")
    checkpointing.mark_complete(checkpoint)
    job.probes.mkdir(exist_ok=True)
    job.probe_of(step).write_text("[]")
    return checkpoint


def test_death_between_a_checkpoint_and_its_weights_leaves_them_to_be_chosen(tmp_path: Path) -> None:
    job = job_in(tmp_path, PROBED)
    checkpoint = leave_checkpoint(job, 8)
    assert resume.make_ready(job) == checkpoint
    weights = job.checkpoints / checkpointing.weights_name(8)
    assert checkpointing.is_intact(weights)
    assert (weights / "model.safetensors").read_text() == "weights of step 8"


@pytest.mark.parametrize(
    ("options", "probed"),
    [
        (PROBED, False),  # nobody will judge them
        (TrainingOptions(probe=ProbeOptions(every_steps=4), choose_by="last"), True),
    ],
)
def test_weights_that_no_probe_can_choose_are_not_kept(tmp_path: Path, options: TrainingOptions, probed: bool) -> None:
    job = job_in(tmp_path, options)
    leave_checkpoint(job, 8)
    if not probed:
        job.probe_of(8).unlink()
    resume.make_ready(job)
    assert not (job.checkpoints / checkpointing.weights_name(8)).exists()


@pytest.mark.parametrize("marker", ["", "{", "\x00", "[]"])
def test_damaged_marker_is_a_damaged_checkpoint(tmp_path: Path, marker: str) -> None:
    job = job_in(tmp_path, PROBED)
    older, newer = (leave_checkpoint(job, step) for step in (4, 8))
    (newer / checkpointing.MARKER).write_text(marker)
    assert checkpointing.newest_intact(job.checkpoints) == older
    assert resume.make_ready(job) == older
    assert not newer.exists()


@pytest.mark.parametrize(
    "group",
    [{}, pytest.param({"processes": 2, "zero_stage": 2, "micro_batch_size": 4}, marks=pytest.mark.slow)],
    ids=["one", "two"],
)
@pytest.mark.parametrize("choose_by", ["last", "loss"])
def test_early_stop_holds_for_the_attempt_that_finds_it(
    choose_by: str,
    group: dict[str, Any],
    make_job: Callable[..., Job],
    run_job: Callable[..., Job],
    rows: Callable[..., Any],
) -> None:
    # with `loss` the step that ends the patience has a checkpoint because every step has one
    every = 1 if choose_by == "loss" else 1000
    options = {"epochs": 40, "patience": 2, "save_every_steps": every, "choose_by": choose_by, "learning_rate": 3e-2}
    job = run_job(make_job(rows(8, 8), **options, **group))
    undisturbed, curve = Result.model_validate_json(job.result.read_bytes()), job.metrics.read_bytes()
    assert undisturbed.stopped_early
    job.result.unlink()
    checkpoint = resume.make_ready(job)
    assert checkpoint
    assert checkpointing.step_of(checkpoint) == undisturbed.steps
    run_job(job, checkpoint)
    assert Result.model_validate_json(job.result.read_bytes()) == undisturbed
    assert job.metrics.read_bytes() == curve
