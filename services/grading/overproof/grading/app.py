"""The composition root of grading: settings, grader, tasks, worker."""

from __future__ import annotations

import sys
from functools import lru_cache

from overproof.grading.adapters.symbolic import CHILD, START_SECONDS, Symbolic
from overproof.grading.audit import audit
from overproof.grading.domain.policy import Policy
from overproof.grading.grader import Grader
from overproof.grading.settings import GradingSettings
from overproof.grading.tasks import answers, check, grade
from overproof.grading.voting import vote
from overproof.shared import telemetry
from overproof.shared.recipe import GradingOptions
from overproof.shared.settings import read_secret_files
from overproof.shared.specs import AnswersSpec, AuditSpec, CheckGoldSpec, GradeSpec, VoteSpec
from overproof.shared.topology import Service, TaskName
from overproof.shared.worker import Worker


def build(settings: GradingSettings) -> Worker:
    """The worker with grading's tasks. One grader per budget and policy serves all its threads."""
    worker = Worker(Service.GRADING, settings)

    @lru_cache(maxsize=8)
    def grader(seconds_per_answer: float, policy: Policy) -> Grader:
        return Grader(seconds_per_answer, policy=policy, pairs_per_child=settings.pairs_per_child)

    def asked(options: GradingOptions) -> Grader:
        policy = Policy(options.strict, options.order_matters, options.decimal_tolerance)
        return grader(options.seconds_per_answer, policy)

    worker.task(TaskName.GRADE, GradeSpec)(lambda work: grade(work, asked(work.spec.options)))
    worker.task(TaskName.CHECK_GOLD, CheckGoldSpec)(lambda work: check(work, asked(GradingOptions())))
    worker.task(TaskName.ANSWERS, AnswersSpec)(lambda work: answers(work, asked(work.spec.options)))
    worker.task(TaskName.AUDIT, AuditSpec)(
        lambda work: audit(work, asked(GradingOptions(seconds_per_answer=work.spec.seconds_per_answer)))
    )
    worker.task(TaskName.VOTE, VoteSpec)(vote)
    return worker


def require_slow_path() -> None:
    """Ends the process when sympy and Math-Verify cannot answer: whatever needs them would have the verdict `timeout`."""
    symbolic = Symbolic(START_SECONDS)
    opinion = symbolic.can_read("1")
    symbolic.close()
    if not opinion.equal:
        sys.exit(
            f"The child process that runs sympy and Math-Verify does not work: {opinion.reason}. "
            f"`{sys.executable} {CHILD} < /dev/null` says why; it needs the packages of overproof-grading and 1 GiB of address space."
        )


def main() -> None:
    """Serve the grading queue until SIGTERM. The children of the slow path end with this process."""
    read_secret_files()
    settings = GradingSettings()
    require_slow_path()
    telemetry.configure(settings, Service.GRADING)
    build(settings).run()


if __name__ == "__main__":
    main()
