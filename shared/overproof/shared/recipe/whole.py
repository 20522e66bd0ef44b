"""The recipe as a whole, and what its parts ask of each other."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from overproof.shared.recipe.data import Data, Given, Models
from overproof.shared.recipe.judging import Grading, MajorityRule, SelectionPolicy
from overproof.shared.recipe.part import Part
from overproof.shared.recipe.prompt import PromptOptions
from overproof.shared.recipe.sampling import EngineOptions, EvaluationOptions, SamplingOptions
from overproof.shared.recipe.training import TrainingOptions

Goal = Literal["distil", "sample", "grade", "select", "train", "evaluate", "compare"]

NEEDS: dict[str, tuple[str, ...]] = {
    "distil": ("data.train", "data.test", "models.teacher", "models.student"),
    "sample": ("data.train", "models.teacher"),
    "grade": ("data.train", "given.completions"),
    "select": ("data.train",),
    "train": ("given.selected", "models.student"),
    "evaluate": ("data.test", "models.evaluate"),
    "compare": ("given.evaluations",),
}


class Recipe(Part):
    """Everything that a run depends on."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,40}$")
    goal: Goal = "distil"
    """distil: the whole loop; the others name one part of it. select samples and grades first unless completions are given."""
    data: Data = Data()
    models: Models = Models()
    given: Given = Given()
    prompt: PromptOptions = PromptOptions()
    engine: EngineOptions = EngineOptions()
    teacher_engine: EngineOptions | None = None
    """Engine of `models.teacher` alone, where it is another one, e.g. a hosted teacher of students that are sampled here."""
    sampling: SamplingOptions = SamplingOptions()
    evaluation: EvaluationOptions = EvaluationOptions()
    grading: Grading = Grading()
    majority: MajorityRule = MajorityRule()
    """Which problems are put on the list of gold answers to review, and labelled where `selection.labels` says so."""
    selection: tuple[SelectionPolicy, ...] = (SelectionPolicy(),)
    """One student is trained per policy; the first one's student is the next round's teacher."""
    training: TrainingOptions = TrainingOptions()
    rounds: int = Field(1, ge=1, le=20)
    """In round k + 1 the student of round k teaches."""
    problems_per_shard: int = Field(100, ge=1, le=100_000)
    """A shard is minutes of work: what a lost worker loses."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        missing = [path for path in NEEDS[self.goal] if not _get(self, path)]
        if missing:
            raise ValueError(f"goal {self.goal} needs {', '.join(missing)}")
        if self.goal == "select" and not (self.given.completions or self.models.teacher):
            raise ValueError("goal select needs given.completions, or models.teacher to make them")
        if self.given.further_completions and (self.given.grades or not self.given.completions):
            raise ValueError("given.further_completions go with given.completions, and all of them are graded here")
        if self.given.regrade and self.goal != "compare":
            raise ValueError("given.regrade is for goal compare; goal grade judges given.completions again")
        if self.has_majority_labels:
            self._check_majority()
        labels = [policy.label for policy in self.selection]
        if len(labels) != len(set(labels)) or not labels:
            raise ValueError(f"selection needs at least one policy, each once; got {labels}")
        return self

    @model_validator(mode="after")
    def _probe_can_be_judged(self) -> Self:
        if self.training.choose_by != "accuracy":
            return self
        if self.goal == "train" and self.data.train is None:
            raise ValueError("training.choose_by accuracy needs data.train: the gold answers of the validation rows")
        if self.goal == "distil" and any(policy.val_share == 0 for policy in self.selection):
            raise ValueError("training.choose_by accuracy needs validation problems: set selection.val_share above 0")
        return self

    @model_validator(mode="after")
    def _engines_serve(self) -> Self:
        if self.goal == "distil" and self.engine.kind == "openai":
            raise ValueError(
                "engine.kind openai cannot sample the students that a run trains; "
                "move it to teacher_engine and choose another engine.kind"
            )
        teacher, student = self.models.teacher, self.models.student
        if self.teacher_engine and teacher and student and teacher.name == student.name:
            raise ValueError("teacher_engine needs a models.teacher with another name than models.student")
        if self.teacher_engine and self.teacher_engine.budget_usd and self.engine.budget_usd:
            raise ValueError("a run has one budget; set budget_usd in engine or in teacher_engine, not in both")
        return self

    def engine_of_teacher(self) -> EngineOptions:
        """The engine of `models.teacher`."""
        return self.teacher_engine or self.engine

    @property
    def is_priced(self) -> bool:
        """Whether somebody asks money for completions."""
        return any(engine.cost_usd(1, 1) for engine in (self.engine, self.engine_of_teacher()))

    @property
    def budget_usd(self) -> float | None:
        """What the run's own completions may cost."""
        return self.engine_of_teacher().budget_usd or self.engine.budget_usd

    @property
    def has_majority_labels(self) -> bool:
        """Whether a policy asks for them."""
        return any(policy.labels == "majority" for policy in self.selection)

    @property
    def may_lack_answers(self) -> bool:
        """Whether training problems need no gold answer: such rows are kept, and their completions may label them."""
        return self.has_majority_labels and self.data.on_ungradable == "keep"

    def _check_majority(self) -> None:
        if self.goal not in ("distil", "select"):
            raise ValueError(
                f"selection.labels: majority is for training rows, and goal {self.goal} selects none: "
                "test problems are judged by their gold answers only"
            )
        if not self.given.completions and self.sampling.max_samples < self.majority.min_votes:
            raise ValueError(
                f"selection.labels: majority needs {self.majority.min_votes} completions that agree (majority.min_votes), but "
                f"sampling.max_samples is {self.sampling.max_samples}: raise it"
            )


def _get(recipe: Recipe, path: str) -> Any:
    value: Any = recipe
    for name in path.split("."):
        value = getattr(value, name)
    return value
