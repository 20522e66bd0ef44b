"""What a run starts from: problems, models, and the checks of both; and the list of nodes that a plan grows into."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from overproof.pipeline.domain.nodes import Node
from overproof.shared.errors import RecipeError
from overproof.shared.recipe import DataSource, EngineOptions, ModelSource
from overproof.shared.runs import RunRecord
from overproof.shared.specs import CheckGoldSpec, CheckModelSpec, CheckStudentSpec, ModelRef, PrepareSpec, Spec


class Graded(NamedTuple):
    """Completions and their grades, one of each per sampling pass."""

    completions: tuple[str, ...]
    grades: tuple[str, ...]


class Foundation:
    """Collects nodes, in the order in which they are added."""

    def __init__(self, record: RunRecord, earlier: Mapping[str, str]) -> None:
        """`earlier`: grades of this run → what the same completions were graded as before."""
        self.earlier = earlier
        self.recipe = record.recipe
        self.bindings = record.bindings
        self.nodes: dict[str, Node] = {}
        self.names: dict[str, str] = {}

    def _problems(self, name: str, source: DataSource | None, exclude: str | None = None) -> str:
        """A table of problems; only training problems may lack their answers."""
        if source is None:
            raise RecipeError(f"data.{name} is missing.", "Name a data set.")
        if source.artifact:
            self.names[f"problems/{name}"] = source.artifact
            return source.artifact
        spec = PrepareSpec(
            source=source,
            fingerprint=self.bindings.data.get(source.name),
            rows_per_part=self.recipe.problems_per_shard,
            missing_answers="keep" if name == "train" and self.recipe.may_lack_answers else "error",
            exclude=exclude,
            on_overlap=self.recipe.data.on_overlap,
        )
        after = (exclude,) if exclude else ()
        return self._add(f"prepare · {name}", spec, after=after, name=f"problems/{name}")

    def _gold_gates(self, *tables: str) -> tuple[str, ...]:
        return tuple(
            self._add(
                f"check gold · {self._name_of(table)}", CheckGoldSpec(problems=table), after=(table,), shards_of=table
            )
            for table in tables
        )

    def _model_gates(self, model: ModelRef, problems: str, max_tokens: int) -> tuple[str, ...]:
        recipe = self.recipe
        spec = CheckModelSpec(
            model=model, problems=problems, prompt=recipe.prompt, max_tokens=max_tokens, engine=self._engine(model)
        )
        after = (problems, model.location) if model.kind == "artifact" and self._made_here(model) else (problems,)
        return (self._add(f"check model · {model.name} · {self._name_of(problems)}", spec, after=after),)

    def _train_gates(self, model: ModelRef, problems: str) -> tuple[str, ...]:
        return self._model_gates(model, problems, self.recipe.sampling.max_tokens)

    def _test_gates(self, model: ModelRef, problems: str) -> tuple[str, ...]:
        return self._model_gates(model, problems, self.recipe.evaluation.max_tokens)

    def _check_student(self, student: ModelRef, problems: str) -> None:
        """A gate of the trainings only (see `Planner._train`): sampling need not wait for a trainer to be free."""
        spec = CheckStudentSpec(
            student=student, problems=problems, prompt=self.recipe.prompt, options=self.recipe.training
        )
        self._add(f"check student · {student.name}", spec, after=(problems,))

    def _made_here(self, model: ModelRef) -> bool:
        return model.location in self.nodes

    def _name_of(self, ref: str) -> str:
        return next((name.rpartition("/")[2] for name, other in self.names.items() if other == ref), ref)

    def _model(self, source: ModelSource | None) -> ModelRef:
        if source is None:
            raise RecipeError("A model is missing.", "Name models.teacher and models.student.")
        name = f"{source.name}@{source.revision}" if source.revision else source.name
        if name not in self.bindings.models:
            raise RecipeError(f"Model {name} was not bound when the run was submitted.", "Submit the recipe again.")
        return self.bindings.models[name]

    def _engine(self, model: ModelRef) -> EngineOptions:
        """What samples a model: the recipe's teacher may have an engine of its own."""
        source = self.recipe.models.teacher
        if self.recipe.teacher_engine and source and model == self._model(source):
            return self.recipe.teacher_engine
        return self.recipe.engine

    def _licenses(self) -> tuple[tuple[str, str], ...]:
        """(what, licence) of every model and data set that the recipe names."""
        data = self.recipe.data
        found = [(ref.name, ref.license or "not stated") for ref in self.bindings.models.values()]
        found += [(one.name, one.license or "not stated") for one in (data.train, data.test) if one is not None]
        return tuple(sorted(set(found)))

    def _add(
        self,
        label: str,
        spec: Spec,
        *,
        after: tuple[str, ...] = (),
        along: tuple[str, ...] = (),
        shards_of: str | None = None,
        name: str | None = None,
    ) -> str:
        ref = spec.ref
        self.nodes.setdefault(ref, Node(label, spec, tuple(dict.fromkeys(after)), along, shards_of))
        if name:
            self.names[name] = ref
        return ref
