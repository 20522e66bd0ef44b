"""The life of one check, as the worker leads it: whether a student can be trained so, asked while the teacher still writes."""

from __future__ import annotations

import json
import logging

from overproof.shared.specs import CheckStudentSpec
from overproof.shared.work import Work
from overproof.training import launcher, staging
from overproof.training.foretelling import tell_unused
from overproof.training.settings import TrainingSettings

log = logging.getLogger(__name__)


def check_student(work: Work[CheckStudentSpec], settings: TrainingSettings) -> None:
    """A student, training options and a table of problems → `check.json`.

    Raises UserError for what the asker can mend: what `staging.of_check` and `rehearsal.rehearse` raise. Takes no GPU.
    """
    job = staging.of_check(work, settings)
    work.progress(phase="checking")
    launcher.run_child("overproof.training.rehearsal", job, work.stop, settings.training_stall_seconds)
    found = json.loads(job.check.read_text(encoding="utf-8"))
    for warning in found["warnings"]:
        log.warning("of %s: %s", work.spec.student.name, warning)
    tell_unused(job, found["estimate"])
    work.write_file(job.check, "check.json")
    work.note(problems=found["problems"], too_long=found["too_long"], warnings=len(found["warnings"]))
