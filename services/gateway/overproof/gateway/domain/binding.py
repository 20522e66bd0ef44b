"""Names in a recipe → what has to be looked up, and what the answers must satisfy."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from overproof.gateway.domain.columns import Table
from overproof.shared.errors import ModelError, RecipeError
from overproof.shared.recipe import DataSource, ModelSource, Recipe
from overproof.shared.runs import Bindings, RunState, RunStatus
from overproof.shared.specs import CompareSpec, Evaluation, ModelRef

HUB_PATTERN = re.compile(r"^[\w.-]{1,96}/[\w.-]{1,96}$")
RUN_PREFIX = "run:"
STUDENT_PATTERN = re.compile(r"^student/round-(\d+)/(.+)$")


class WantedModel(NamedTuple):
    """A model that a recipe names."""

    field: str
    source: ModelSource
    tokens: int
    """Its context must be larger than this many generated tokens."""
    trained: bool
    """Whether it is trained, and so must be a checkpoint even where a canned engine samples."""


class WantedData(NamedTuple):
    """A data set that a recipe names."""

    field: str
    source: DataSource
    table: Table


def binding_name(source: ModelSource) -> str:
    """Key of a model in `Bindings.models`: `name@revision` or `name`."""
    return f"{source.name}@{source.revision}" if source.revision else source.name


def wanted_models(recipe: Recipe) -> Iterator[WantedModel]:
    """Every model that the recipe's goal uses."""
    sampled, tested = recipe.sampling.max_tokens, recipe.evaluation.max_tokens
    models = recipe.models
    draws = recipe.goal in {"distil", "sample"} or (recipe.goal == "select" and recipe.given.completions is None)
    if models.teacher and draws:
        tokens = max(sampled, tested) if recipe.goal == "distil" else sampled
        yield WantedModel("models.teacher", models.teacher, tokens, trained=False)
    if models.student and recipe.goal in {"distil", "train"}:
        yield WantedModel("models.student", models.student, tested if recipe.goal == "distil" else 0, trained=True)
    if recipe.goal == "evaluate":
        for index, source in enumerate(models.evaluate):
            yield WantedModel(f"models.evaluate.{index}", source, tested, trained=False)


def wanted_data(recipe: Recipe) -> Iterator[WantedData]:
    """Every data set that the recipe names."""
    named: tuple[tuple[str, DataSource | None, Table], ...] = (
        ("data.train", recipe.data.train, "questions" if recipe.may_lack_answers else "problems"),
        ("data.test", recipe.data.test, "problems"),
        ("given.completions", recipe.given.completions, "completions"),
        ("given.grades", recipe.given.grades, "grades"),
        ("given.selected", recipe.given.selected, "selected"),
    )
    for field, source, table in named:
        if source is not None:
            yield WantedData(field, source, table)
    for index, ref in enumerate(recipe.given.further_completions):
        yield WantedData(f"given.further_completions.{index}", DataSource(artifact=ref), "completions")


def student_of(run_id: str, status: RunStatus | None, first_policy: str) -> str:
    """Reference of the student that an earlier run made: of its last round, by its first policy. Raises ModelError."""
    if status is None or status.state is not RunState.SUCCEEDED:
        state = status.state if status else RunState.QUEUED
        raise ModelError(f"Run {run_id} has not succeeded (it is {state}).", "Wait for it, or name another model.")
    matches = ((STUDENT_PATTERN.match(name), ref) for name, ref in status.artifacts.items())
    found = {(int(match[1]), match[2]): ref for match, ref in matches if match}
    if not found:
        raise ModelError(f"Run {run_id} made no student.", "Name a run with goal distil or train.")
    last = max(number for number, _ in found)
    policies = [policy for number, policy in sorted(found) if number == last]
    return found[last, first_policy if first_policy in policies else policies[0]]


def is_served(recipe: Recipe, wanted: WantedModel) -> bool:
    """Whether a server has the model, so that there is no checkpoint of it here."""
    engine = recipe.engine_of_teacher() if wanted.field == "models.teacher" else recipe.engine
    return engine.kind == "openai" and not wanted.trained


def served(source: ModelSource) -> ModelRef:
    """A model by its server's name for it; whether the server has it is checked before the first shard."""
    if source.revision:
        raise ModelError(f"{source.name} is a server's, which has no revision.", "Leave out @ and what follows it.")
    if source.name.startswith(RUN_PREFIX):
        raise ModelError(
            "The student of a run is no model of a server.",
            "Choose another engine.kind, or name what the server calls it.",
        )
    return ModelRef(name=source.name, kind="served", location=source.name, license=source.license)


def check_context(context: int | None, wanted: WantedModel) -> None:
    """Raises ModelError when the model has no room for a prompt beside the tokens that are to be generated."""
    if context is not None and context <= wanted.tokens:
        raise ModelError(
            f"{wanted.source.name} has {context} positions, too few for {wanted.tokens} new tokens and a prompt.",
            "Lower max_tokens in sampling or evaluation, or name a model with a longer context.",
        )


def check_lengths(recipe: Recipe) -> None:
    """Raises RecipeError when `engine.max_model_len` leaves no room for a prompt."""
    own = recipe.teacher_engine is not None and recipe.rounds == 1  # later rounds' teachers are sampled by `engine`
    here = (one for one in wanted_models(recipe) if not (own and one.field == "models.teacher"))
    longest = max((wanted.tokens for wanted in here), default=0)
    limit = recipe.engine.max_model_len
    if limit is not None and limit <= longest:
        raise RecipeError(
            f"It is {limit}, too small for {longest} new tokens and a prompt.", "Raise it, or lower max_tokens."
        )


def merged_evaluations(runs: list[tuple[str, CompareSpec]]) -> tuple[dict[str, Any], ...]:
    """The evaluations of several runs as one list, each with its `problems`; a label that two runs use gets the run's id.

    Raises RecipeError when the runs were evaluated on different problems.
    """
    if len({spec.problems for _, spec in runs}) > 1:
        names = ", ".join(run_id for run_id, _ in runs)
        raise RecipeError(f"The runs {names} were evaluated on different problems.", "Compare runs with one test set.")
    kept: dict[tuple[str, str], tuple[str, Evaluation]] = {}
    for run_id, spec in runs:
        for one in spec.evaluations:  # runs that share a teacher share its evaluation
            kept.setdefault((one.completions, one.grades), (run_id, one))
    labels = [one.label for _, one in kept.values()]
    problems = runs[0][1].problems if runs else ""
    return tuple(
        {"evaluation": _relabelled(run_id, one, labels).model_dump(mode="json"), "problems": problems}
        for run_id, one in kept.values()
    )


def _relabelled(run_id: str, one: Evaluation, labels: list[str]) -> Evaluation:
    return one.model_copy(update={"label": f"{one.label} · {run_id}"}) if labels.count(one.label) > 1 else one


MAJORITY = (
    "selection.labels: majority trains on what the teacher mostly says where the gold answer is missing or contradicted: "
    "what it gets wrong again and again is taught as right. Look at the run's gold_review."
)


UNBOUNDED = "A served model has a price and the run no budget_usd: nothing bounds what it spends."


def warnings(recipe: Recipe, bindings: Bindings) -> list[str]:
    """What is allowed and yet unwise."""
    fields = [wanted.field for wanted in wanted_data(recipe) if wanted.source.hub and not wanted.source.revision]
    for model in wanted_models(recipe):
        ref = bindings.models.get(binding_name(model.source))
        if ref is not None and ref.kind == "hub" and not ref.revision:
            fields.append(model.field)
    told = [f"{field} names no revision: name a commit, so that the run can be repeated." for field in fields]
    told += [UNBOUNDED] if recipe.is_priced and recipe.budget_usd is None else []
    return told + ([MAJORITY] if recipe.has_majority_labels else [])
