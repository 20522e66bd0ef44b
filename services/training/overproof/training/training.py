"""The life of one training, as the worker leads it: stage, prepare, fit, publish."""

from __future__ import annotations

import shutil
import time

from overproof.shared.errors import EngineUnavailable
from overproof.shared.specs import TrainSpec
from overproof.shared.work import Work
from overproof.training import checkpointing, launcher, staging, student
from overproof.training.disk import check_disk
from overproof.training.failures import full_disk_named
from overproof.training.foretelling import foretell
from overproof.training.job import Job, Result
from overproof.training.metrics import Follower, speed
from overproof.training.probes import Probes
from overproof.training.room import wait_for_room
from overproof.training.runners import runner_of
from overproof.training.settings import TrainingSettings
from overproof.training.setup import Announcement
from overproof.training.verdicts import Asker


def train(work: Work[TrainSpec], settings: TrainingSettings, asker: Asker) -> None:
    """Make a student out of selected rows; each step is skipped when an earlier attempt has made it.

    Raises UserError for what the asker can mend, Stopped, StorageUnavailable for a full disk, and EngineUnavailable for what else may pass.
    """
    with full_disk_named(work.scratch()):
        _train(work, settings, asker)


def _train(work: Work[TrainSpec], settings: TrainingSettings, asker: Asker) -> None:
    job = staging.of_training(work, settings)
    prepare(work, job, settings)
    foretell(work, job)
    follower = Follower(job.metrics, work.progress)
    probes = Probes(job, work, asker, follower.show)
    result = fit(work, job, settings, follower, probes)
    if job.options.probe:
        probes.settle()
        result = probes.choose(result)
    publish(work, job, result, settings)


def prepare(work: Work[TrainSpec], job: Job, settings: TrainingSettings) -> None:
    """Rows → tokens and the preflight checks, in a child, unless an earlier attempt has done it."""
    if job.is_prepared():
        return
    work.progress(phase="preparing")
    launcher.run_child("overproof.training.prepare", job, work.stop, settings.training_stall_seconds)


def fit(work: Work[TrainSpec], job: Job, settings: TrainingSettings, follower: Follower, probes: Probes) -> Result:
    """Train from the newest complete checkpoint; returns at once when an earlier attempt had finished."""
    checkpoint = checkpointing.newest_intact(job.checkpoints)  # only looked at: nodes of a cluster may be at work
    if not (job.result.is_file() and checkpoint):
        step = checkpointing.step_of(checkpoint) if checkpoint else 0
        follower.begin()
        check_disk(job)
        if job.here:
            wait_for_room(work, job, settings)
        work.progress(phase="starting", step=step)
        started, said = time.monotonic(), Announcement(job.setup)
        runner = runner_of(settings)
        runner.run(work.ref, job, work.stop, lambda: follower.look() | probes.look() | said.look())
        work.note(fit_seconds=round(time.monotonic() - started, 3), resumed_at_step=step)
    if not job.result.is_file():
        raise EngineUnavailable("The training ended without a result.", "It goes on from its last checkpoint.")
    return Result.model_validate_json(job.result.read_bytes())


def publish(work: Work[TrainSpec], job: Job, result: Result, settings: TrainingSettings) -> None:
    """Take the student's files into the artifact, and its figures into the receipt."""
    work.progress(phase="saving", step=result.steps, steps=result.steps)
    work.check()
    if not checkpointing.is_intact(job.checkpoints / result.checkpoint):
        job.result.unlink()
        shutil.rmtree(job.checkpoints)
        raise EngineUnavailable(f"{result.checkpoint} is damaged.", "The student will be trained again.")
    if job.options.lora:
        merge(work, job, result, settings)
    job.event_files.mkdir(exist_ok=True)  # a training whose event files could not be written has a student all the same
    output = student.assemble(job, work.spec, result)
    for path in sorted(one for one in output.rglob("*") if one.is_file()):
        work.write_file(path, path.relative_to(output).as_posix())
    work.note(
        steps=result.steps,
        step=result.step,
        tokens=result.tokens,
        loss=result.train_loss,
        val_loss=result.val_loss,
        stopped_early=result.stopped_early,
        device=result.device,
        **speed(checkpointing.read_lines(job.metrics)),
    )


def merge(work: Work[TrainSpec], job: Job, result: Result, settings: TrainingSettings) -> None:
    """Adapter + base → `merged/`, in a child."""
    checkpoint = str(job.checkpoints / result.checkpoint)
    launcher.run_child("overproof.training.merge", job, work.stop, settings.training_stall_seconds, checkpoint)
