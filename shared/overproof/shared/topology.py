"""The one list of names: services, their queues, stages, tasks. Nobody types a queue name."""

from __future__ import annotations

from enum import StrEnum

GRADER_VERSION = "5"
"""Part of every grade's key. Raised whenever any verdict may change, so that old completions can be graded again."""


class Service(StrEnum):
    """A service; its Celery queue has the same name."""

    GATEWAY = "gateway"
    PIPELINE = "pipeline"
    INFERENCE = "inference"
    GRADING = "grading"
    TRAINING = "training"
    REPORTING = "reporting"


class Stage(StrEnum):
    """A kind of artifact; also the folder it lies in: `artifacts/<stage>/<key>/`."""

    PREPARE = "prepare"
    CHECK_GOLD = "check_gold"
    CHECK_MODEL = "check_model"
    CHECK_STUDENT = "check_student"
    SAMPLE = "sample"
    GRADE = "grade"
    ANSWERS = "answers"
    VOTE = "vote"
    REVIEW = "review"
    CHANGES = "changes"
    AUDIT = "audit"
    SELECT = "select"
    TRAIN = "train"
    COMPARE = "compare"
    REPORT = "report"


class TaskName(StrEnum):
    """Celery task names, `<service>.<verb>`; the part before the dot is the queue."""

    PREPARE = "pipeline.prepare"
    SHARD_DONE = "pipeline.shard_done"
    CHECK_GOLD = "grading.check"
    CHECK_MODEL = "inference.check"
    CHECK_STUDENT = "training.check"
    SAMPLE = "inference.sample"
    GRADE = "grading.grade"
    ANSWERS = "grading.answers"
    VOTE = "grading.vote"
    REVIEW = "reporting.review"
    CHANGES = "reporting.changes"
    AUDIT = "grading.audit"
    SELECT = "reporting.select"
    TRAIN = "training.train"
    COMPARE = "reporting.compare"
    REPORT = "reporting.report"


TASK_OF_STAGE = {stage: TaskName[stage.name] for stage in Stage}
ROUTES = {str(name): {"queue": name.partition(".")[0]} for name in TaskName}


class Role(StrEnum):
    """Which part a model plays in a round."""

    TEACHER = "teacher"
    BASE = "base"
    STUDENT = "student"


class Verdict(StrEnum):
    """What grading says of one completion. `ungradable` is about the gold answer, `timeout` about the grader: neither is `wrong`."""

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    TRUNCATED = "truncated"
    TIMEOUT = "timeout"
    UNGRADABLE = "ungradable"


class FinishReason(StrEnum):
    """Why a completion ended: `stop` (EOS or a stop string), `length` (max_tokens), `error` (this prompt failed; see text)."""

    STOP = "stop"
    LENGTH = "length"
    ERROR = "error"
