"""What each stage makes, completely: an artifact's key is the hash of its spec.

A spec names its inputs by reference (`<stage>/<key>`), so a key covers everything upstream. A worker reads the spec from
`artifacts/<stage>/<key>/spec.json`; the message that wakes it carries only the key.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from overproof.shared.recipe import (
    ACCOUNTING,
    DataSource,
    EngineOptions,
    GradingOptions,
    MajorityRule,
    PromptOptions,
    SelectionPolicy,
    TrainingOptions,
)
from overproof.shared.tables import SCHEMA_VERSION
from overproof.shared.topology import GRADER_VERSION, Role, Stage

Ref = Annotated[str, Field(pattern=r"^[a-z_]+/[0-9a-f]{32}$")]
"""An artifact: `<stage>/<key>`."""


def digest(value: object) -> str:
    """32 hex digits of the SHA-256 of a value's canonical JSON (sorted keys, no spaces)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class Spec(BaseModel):
    """Base of all specs."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    stage: ClassVar[Stage]
    UNKEYED: ClassVar[dict[str, set[str]]] = {}
    """By field: parts of it that do not change what is made."""

    @property
    def key(self) -> str:
        """The artifact's key: changes with any field, any input, and the version of the tables."""
        fields = self.model_dump(mode="json", exclude=self.UNKEYED)
        return digest({"stage": self.stage, "schema": SCHEMA_VERSION, "spec": fields})

    @property
    def ref(self) -> str:
        """`<stage>/<key>`."""
        return f"{self.stage}/{self.key}"

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Self:
        """The spec as it was written to `spec.json`."""
        return cls.model_validate(value)


class ModelRef(BaseModel):
    """A checkpoint, resolved: what was asked, where it is, and what identifies its content."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    name: str
    """As the recipe names it; for a student made by a run, `run:<id>` or the label of its round."""
    kind: Literal["hub", "folder", "artifact", "served"]
    """hub: `location` is a hub id; folder: a path below the model root; artifact: `train/<key>`; served: a server's own name for it."""
    location: str
    revision: str | None = None
    fingerprint: str | None = None
    """Of a folder: hash over names, sizes and content, so that a changed checkpoint gets new artifacts."""
    license: str | None = None


class Sampling(BaseModel):
    """How completions are drawn; equal for all models of one evaluation."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    samples: int = 1
    """Completions per problem in this pass."""
    first_sample: int = 0
    """Index of the first one: later passes go on where earlier ones stopped."""
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 1024
    stop: tuple[str, ...] = ()
    seed: int = 0


class PrepareSpec(Spec):
    """One data set → one table, read and checked line by line. One shard, many parts."""

    stage: ClassVar[Stage] = Stage.PREPARE
    table: Literal["problems", "completions", "grades", "selected"] = "problems"
    source: DataSource
    fingerprint: str | None = None
    """SHA-256 of the uploaded or local file, or the hub revision: what the source said when the run was submitted."""
    rows_per_part: int
    missing_answers: Literal["error", "keep"] = "error"
    """keep: a problem without a gold answer gets an empty one, which nothing can be judged by."""
    exclude: Ref | None = None
    """Test problems (a prepared table): no row of the result may share a group with them."""
    on_overlap: Literal["error", "drop"] = "error"
    problems: Ref | None = None
    """For completions and grades: the problems they belong to; parts are cut like its parts."""


class CheckGoldSpec(Spec):
    """Can each gold answer be read by the grader? One shard per part of problems."""

    stage: ClassVar[Stage] = Stage.CHECK_GOLD
    problems: Ref
    grader: str = GRADER_VERSION


class CheckModelSpec(Spec):
    """Can this model be sampled with this prompt, and do the prompts fit? One shard, before any is sampled."""

    stage: ClassVar[Stage] = Stage.CHECK_MODEL
    UNKEYED: ClassVar[dict[str, set[str]]] = {"engine": ACCOUNTING}
    model: ModelRef
    problems: Ref
    prompt: PromptOptions
    max_tokens: int
    engine: EngineOptions


class CheckStudentSpec(Spec):
    """Can this student be trained so, on solutions of these problems? One shard; it is long over when the first row is selected."""

    stage: ClassVar[Stage] = Stage.CHECK_STUDENT
    student: ModelRef
    problems: Ref
    prompt: PromptOptions
    options: TrainingOptions


class SampleSpec(Spec):
    """Completions of one model for one table of problems. One shard per part of problems."""

    stage: ClassVar[Stage] = Stage.SAMPLE
    UNKEYED: ClassVar[dict[str, set[str]]] = {"engine": ACCOUNTING}
    problems: Ref
    model: ModelRef
    role: Role
    round: int
    prompt: PromptOptions
    sampling: Sampling
    engine: EngineOptions
    graded: tuple[Ref, ...] = ()
    """Grades of the earlier passes over the same problems (shard by shard)."""
    enough: int | None = None
    """Skip a problem that already has this many correct completions in `graded`; None: sample every problem."""
    quota: Literal["uniform", "difficulty"] = "uniform"
    """With `enough`: whether every problem is to have as many, or a problem that is often solved fewer."""
    max_samples: int | None = None
    """With `enough`: most completions of one problem over all passes."""

    @property
    def likeness(self) -> str:
        """Hash of what must be equal for two completions to be compared: prompt and sampling, not the model."""
        return digest(
            {"prompt": self.prompt.model_dump(mode="json"), "sampling": self.sampling.model_dump(mode="json")}
        )


class GradeSpec(Spec):
    """A verdict for each completion, in the same order. One shard per shard of completions."""

    stage: ClassVar[Stage] = Stage.GRADE
    completions: Ref
    problems: Ref
    options: GradingOptions
    grader: str = GRADER_VERSION

    def likeness(self, completions_spec: str) -> str:
        """Hash of the completions' own likeness and of how they are graded."""
        return digest({"of": completions_spec, "options": self.options.model_dump(mode="json"), "grader": self.grader})


class AnswersSpec(Spec):
    """Answers sent to `POST /v1/grade`. One shard; its input lies beside the spec as `answers.parquet` (table ANSWERS)."""

    stage: ClassVar[Stage] = Stage.ANSWERS
    sha256: str
    """Of `answers.parquet`."""
    options: GradingOptions
    grader: str = GRADER_VERSION


class VoteSpec(Spec):
    """Which answer the completions of each problem agree on. One shard per part of problems."""

    stage: ClassVar[Stage] = Stage.VOTE
    problems: Ref
    grades: tuple[Ref, ...]
    """One per sampling pass; part i of each belongs to part i of problems."""
    options: GradingOptions
    """Which answers are the same."""
    grader: str = GRADER_VERSION


class ReviewSpec(Spec):
    """Gold answers that somebody should look at. One shard; nothing is relabelled."""

    stage: ClassVar[Stage] = Stage.REVIEW
    problems: Ref
    votes: tuple[tuple[int, Ref], ...]
    """(round, its votes)."""
    rule: MajorityRule


class Regraded(BaseModel):
    """Completions with two gradings."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    label: str
    """What they are: `test · base`."""
    before: Ref
    after: Ref


class ChangesSpec(Spec):
    """Verdicts that differ between two gradings of the same completions. One shard."""

    stage: ClassVar[Stage] = Stage.CHANGES
    regraded: tuple[Regraded, ...]


class Audited(BaseModel):
    """Grades that are looked at again."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    label: str
    """What they are of: `test · base`."""
    grades: Ref


class AuditSpec(Spec):
    """Verdicts that Math-Verify would have given otherwise. One shard; it changes none of them."""

    stage: ClassVar[Stage] = Stage.AUDIT
    audited: tuple[Audited, ...]
    share: float
    """Of the verdicts `correct` and `wrong`, drawn by the hash of problem and sample."""
    seconds_per_answer: float
    grader: str = GRADER_VERSION


class SelectSpec(Spec):
    """Training rows out of graded completions, by one policy. One shard, many parts."""

    stage: ClassVar[Stage] = Stage.SELECT
    problems: Ref
    completions: tuple[Ref, ...]
    """One per sampling pass; part i of each belongs to part i of problems."""
    grades: tuple[Ref, ...]
    """As `completions`."""
    tests: tuple[Ref, ...]
    """Problem tables that must share no group with the result."""
    policy: SelectionPolicy
    prompt: PromptOptions
    seed: int = 0
    votes: Ref | None = None
    """For `labels: majority`; else None, so that selections by gold answers do not depend on it."""
    rule: MajorityRule | None = None
    """As `votes`."""


class TrainSpec(Spec):
    """Supervised fine-tuning of one student on one table of selected rows. One shard; its parts are the checkpoint's files."""

    stage: ClassVar[Stage] = Stage.TRAIN
    selected: Ref
    student: ModelRef
    options: TrainingOptions
    policy: str
    """Label of the selection policy, for the model card."""
    labels: Literal["gold", "majority"] = "gold"
    """What the selected solutions agree with, for the model card."""
    round: int
    teacher: str
    """Name of the teacher, for the model card."""
    licenses: tuple[tuple[str, str], ...] = ()
    """(what, licence) of models and data, for the model card."""
    problems: Ref | None = None
    """With a probe: the training problems, for the gold answers of those held out for validation. None: probes get no verdicts."""
    grading: GradingOptions | None = None
    """With a probe: how its solutions are judged."""


class Evaluation(BaseModel):
    """One model's graded completions on the test problems."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    label: str
    """Unique in the comparison: `teacher`, `base`, `round 1`, `round 1 · all`."""
    role: Role
    round: int
    model: str
    completions: Ref
    grades: Ref


class CompareSpec(Spec):
    """All evaluations of a run against each other, paired by problem. One shard."""

    stage: ClassVar[Stage] = Stage.COMPARE
    problems: Ref
    evaluations: tuple[Evaluation, ...]
    baseline: str
    """Label of the evaluation that the others are compared with: the base student, or else the first."""
    contrasts: tuple[tuple[str, str], ...] = ()
    """Further pairs (a, b) to compare, e.g. the `shortest` student with the `all` student."""
    resamples: int = 2000
    seed: int = 0


class Arm(BaseModel):
    """One student of one round: what it was trained on and what came out."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    label: str
    round: int
    policy: str
    selected: Ref
    trained: Ref | None


class ReportSpec(Spec):
    """The report: JSON, CSV, PNG and one self-contained HTML page. One shard; its parts are files."""

    stage: ClassVar[Stage] = Stage.REPORT
    run_name: str
    compare: Ref
    comparison: CompareSpec
    arms: tuple[Arm, ...]
    sampled: tuple[Ref, ...] = ()
    """Training completions, all passes and rounds: for the data funnel."""
    graded: tuple[Ref, ...] = ()
    """Their grades."""
    review: Ref | None = None
    """Gold answers to look at."""
    changes: Ref | None = None
    """Verdicts that an earlier grading of the same completions had otherwise."""
    audit: Ref | None = None
    """Verdicts that Math-Verify would have given otherwise."""
    train_problems: Ref | None = None
    licenses: tuple[tuple[str, str], ...] = ()
    recipe_json: str
    """The recipe, for the section that says how to make it again."""


SPECS: dict[Stage, type[Spec]] = {
    spec.stage: spec
    for spec in (
        PrepareSpec, CheckGoldSpec, CheckModelSpec, CheckStudentSpec, SampleSpec, GradeSpec, AnswersSpec, VoteSpec,
        ReviewSpec, ChangesSpec, AuditSpec, SelectSpec, TrainSpec, CompareSpec, ReportSpec,
    )
}  # fmt: skip
