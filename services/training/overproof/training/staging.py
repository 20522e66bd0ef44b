"""From a spec to the job file that child processes read: what can be checked without reading a row is checked here."""

from __future__ import annotations

from typing import Any

from overproof.shared import checkpoints
from overproof.shared.specs import CheckStudentSpec, TrainSpec
from overproof.shared.work import Work
from overproof.training.domain.batches import batch_of
from overproof.training.job import Job
from overproof.training.runners import check_runner
from overproof.training.settings import TrainingSettings

BYTES_PER_WEIGHT = {"float32": 4, "float": 4}
"""Of the student's file, by dtype; everything else is two bytes wide. For DeepSpeed's buffer sizes only."""


def of_training(work: Work[TrainSpec], settings: TrainingSettings) -> Job:
    """The job of a training, saved in its scratch folder.

    Raises RecipeError for sizes that do not fit together, ModelError for a student that cannot be used, UserError when trainings
    cannot run where the settings say.
    """
    spec = work.spec
    title = f"{spec.student.name} taught by {spec.teacher}, round {spec.round}, {spec.policy}"
    return _staged(
        work, settings, selected=spec.selected, problems=spec.problems, title=title, report_to=settings.training_report_to
    )  # fmt: skip


def of_check(work: Work[CheckStudentSpec], settings: TrainingSettings) -> Job:
    """The job of a check. Raises what `of_training` raises."""
    return _staged(work, settings, selected=work.spec.problems, prompt=work.spec.prompt)


def _staged(work: Work[TrainSpec] | Work[CheckStudentSpec], settings: TrainingSettings, **rows: Any) -> Job:
    options = settings.on_this_machine(work.spec.options)
    batch_of(options)
    check_runner(settings, options)
    base = checkpoints.inspect(checkpoints.resolve(work.spec.student, settings, work.artifacts))
    job = Job(
        scratch=work.scratch().absolute(),
        storage=work.artifacts.files.url,
        student=base.path.absolute(),
        context=base.context,
        vocab_size=base.vocab_size,
        n_parameters=base.bytes // BYTES_PER_WEIGHT.get(base.dtype or "", 2),
        options=options,
        threads=settings.threads(options.processes),
        here=settings.training_runner == "process_group",
        needs_gpus=settings.training_runner == "trainjob" and bool(settings.trainjob_device),
        **rows,
    )
    job.save()
    return job
