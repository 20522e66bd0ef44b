"""What a recipe needs: every artifact of the run, in the order of the loop, with what must be there before it.

All keys follow from the recipe and its bindings alone, so any process can make the same plan at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from overproof.shared.errors import RecipeError
from overproof.shared.recipe import DataSource, ModelSource, SelectionPolicy
from overproof.shared.runs import RunRecord
from overproof.shared.specs import (
    Arm,
    CheckGoldSpec,
    CheckModelSpec,
    CompareSpec,
    Evaluation,
    GradeSpec,
    ModelRef,
    PrepareSpec,
    ReportSpec,
    SampleSpec,
    Sampling,
    SelectSpec,
    Spec,
    TrainSpec,
)
from overproof.shared.topology import TASK_OF_STAGE, Role, Stage

SCHEMA_OF_STAGE = {
    Stage.CHECK_GOLD: "gold_checks",
    Stage.SAMPLE: "completions",
    Stage.GRADE: "grades",
    Stage.SELECT: "selected",
    Stage.COMPARE: "comparison",
}


class Node(NamedTuple):
    """One artifact of a run."""

    label: str
    """For people; unique in the run."""
    spec: Spec
    after: tuple[str, ...] = ()
    """References that must be complete before the first shard."""
    along: tuple[str, ...] = ()
    """References whose shard i must be there before our shard i."""
    shards_of: str | None = None
    """One shard per part of this artifact; None: one shard."""

    @property
    def ref(self) -> str:
        return self.spec.ref

    @property
    def queue(self) -> str:
        return TASK_OF_STAGE[self.spec.stage].partition(".")[0]

    @property
    def schema_name(self) -> str | None:
        return self.spec.table if isinstance(self.spec, PrepareSpec) else SCHEMA_OF_STAGE.get(self.spec.stage)

    @property
    def model(self) -> str | None:
        """What an inference worker must have loaded."""
        return self.spec.model.model_dump_json() if isinstance(self.spec, SampleSpec) else None


class Plan(NamedTuple):
    """All artifacts of a run, and the names that people know them by."""

    nodes: tuple[Node, ...]
    names: dict[str, str]
    """`comparison` → reference."""


def plan(record: RunRecord) -> Plan:
    """The plan of a run. Raises RecipeError when a model was not bound."""
    return _Planner(record).plan()


class _Graded(NamedTuple):
    """Completions and their grades, one of each per sampling pass."""

    completions: tuple[str, ...]
    grades: tuple[str, ...]


class _Planner:
    """Collects nodes while walking the loop once."""

    def __init__(self, record: RunRecord) -> None:
        self.recipe = record.recipe
        self.bindings = record.bindings
        self.nodes: dict[str, Node] = {}
        self.names: dict[str, str] = {}

    def plan(self) -> Plan:
        walks: dict[str, Callable[[], None]] = {
            "distil": self._distil,
            "sample": self._sample_only,
            "grade": self._grade_only,
            "select": self._select_only,
            "train": self._train_only,
            "evaluate": self._evaluate_only,
            "compare": self._compare_only,
        }
        walks[self.recipe.goal]()
        return Plan(tuple(self.nodes.values()), self.names)

    # --- the whole loop ---------------------------------------------------------------------------------------------

    def _distil(self) -> None:
        recipe = self.recipe
        base, teacher = self._model(recipe.models.student), self._model(recipe.models.teacher)
        test = self._problems("test", recipe.data.test)
        train = self._problems("train", recipe.data.train, exclude=test)
        gates = (*self._gold_gates(train, test), *self._train_gates(teacher, train), *self._test_gates(base, test))
        arms: list[Arm] = []
        graded_rounds: list[_Graded] = []
        evaluations: list[Evaluation] = []
        previous = base
        for number in range(1, recipe.rounds + 1):
            graded = self._sample_train(teacher, train, number, gates)
            graded_rounds.append(graded)
            if number == 1:
                evaluations.append(self._evaluate("teacher", Role.TEACHER, 0, teacher, test, gates))
                evaluations.append(self._evaluate("base", Role.BASE, 0, base, test, gates))
            start = previous if recipe.training.start_from == "previous" else base
            students = [self._arm(policy, number, train, test, graded, start, teacher) for policy in recipe.selection]
            for arm, student in students:
                arms.append(arm)
                evaluations.append(self._evaluate(arm.label, Role.STUDENT, number, student, test, (student.location,)))
            teacher = previous = students[0][1]
        self._compare_and_report(test, evaluations, arms, graded_rounds, train)

    def _sample_train(self, teacher: ModelRef, problems: str, number: int, gates: tuple[str, ...]) -> _Graded:
        graded = _Graded((), ())
        for index, sampling in enumerate(self._passes(), 1):
            spec = SampleSpec(
                problems=problems,
                model=teacher,
                role=Role.TEACHER,
                round=number,
                prompt=self.recipe.prompt,
                sampling=sampling,
                engine=self.recipe.engine,
                graded=graded.grades,
                enough=self.recipe.sampling.enough if graded.grades else None,
            )
            name = f"round {number} · pass {index}"
            one = self._graded(f"teacher · {name}", spec, gates, f"train/round-{number}/pass-{index}")
            graded = _Graded((*graded.completions, *one.completions), (*graded.grades, *one.grades))
        return graded

    def _passes(self) -> Iterator[Sampling]:
        options = self.recipe.sampling
        size = options.samples_per_pass if options.enough else options.max_samples
        for first in range(0, options.max_samples, size):
            yield Sampling(
                samples=min(size, options.max_samples - first),
                first_sample=first,
                temperature=options.temperature,
                top_p=options.top_p,
                top_k=options.top_k,
                max_tokens=options.max_tokens,
                stop=options.stop,
                seed=options.seed,
            )

    def _arm(
        self,
        policy: SelectionPolicy,
        number: int,
        train: str,
        test: str,
        graded: _Graded,
        start: ModelRef,
        teacher: ModelRef,
    ) -> tuple[Arm, ModelRef]:
        several = len(self.recipe.selection) > 1
        label = f"round {number} · {policy.label}" if several else f"round {number}"
        selected = self._select(label, policy, train, (test,), graded, number)
        trained = self._train(label, selected, start, policy.label, number, teacher.name)
        student = ModelRef(name=label, kind="artifact", location=trained)
        return Arm(label=label, round=number, policy=policy.label, selected=selected, trained=trained), student

    def _select(
        self, label: str, policy: SelectionPolicy, train: str, tests: tuple[str, ...], graded: _Graded, number: int
    ) -> str:
        spec = SelectSpec(
            problems=train,
            completions=graded.completions,
            grades=graded.grades,
            tests=tests,
            policy=policy,
            prompt=self.recipe.prompt,
            seed=self.recipe.training.seed,
        )
        after = (train, *tests, *graded.completions, *graded.grades)
        return self._add(f"select · {label}", spec, after=after, name=f"selected/round-{number}/{policy.label}")

    def _train(self, label: str, selected: str, start: ModelRef, policy: str, number: int, teacher: str) -> str:
        spec = TrainSpec(
            selected=selected,
            student=start,
            options=self.recipe.training,
            policy=policy,
            round=number,
            teacher=teacher,
            licenses=self._licenses(),
        )
        after = (selected, start.location) if start.kind == "artifact" else (selected,)
        return self._add(f"train · {label}", spec, after=after, name=f"student/round-{number}/{policy}")

    # --- evaluation -------------------------------------------------------------------------------------------------

    def _evaluate(
        self, label: str, role: Role, number: int, model: ModelRef, test: str, gates: tuple[str, ...]
    ) -> Evaluation:
        options = self.recipe.evaluation
        sampling = Sampling(
            samples=options.samples,
            temperature=options.temperature,
            top_p=options.top_p,
            max_tokens=options.max_tokens,
            stop=options.stop,
            seed=options.seed,
        )
        spec = SampleSpec(
            problems=test,
            model=model,
            role=role,
            round=number,
            prompt=self.recipe.prompt,
            sampling=sampling,
            engine=self.recipe.engine,
        )
        graded = self._graded(f"test · {label}", spec, gates, f"test/{_slug(label)}")
        return Evaluation(
            label=label,
            role=role,
            round=number,
            model=model.name,
            completions=graded.completions[0],
            grades=graded.grades[0],
        )

    def _graded(self, label: str, spec: SampleSpec, gates: tuple[str, ...], name: str) -> _Graded:
        completions = self._add(
            f"sample · {label}",
            spec,
            after=(spec.problems, *gates),
            along=spec.graded,
            shards_of=spec.problems,
            name=f"completions/{name}",
        )
        grades = self._grade(label, completions, spec.problems, name)
        return _Graded((completions,), (grades,))

    def _grade(self, label: str, completions: str, problems: str, name: str) -> str:
        spec = GradeSpec(completions=completions, problems=problems, options=self.recipe.grading)
        return self._add(
            f"grade · {label}",
            spec,
            after=(problems,) if completions in self.nodes else (problems, completions),
            along=(completions,) if completions in self.nodes else (),
            shards_of=problems if completions in self.nodes else completions,
            name=f"grades/{name}",
        )

    def _compare_and_report(
        self,
        test: str,
        evaluations: list[Evaluation],
        arms: list[Arm],
        rounds: list[_Graded],
        train: str | None,
    ) -> None:
        labels = [evaluation.label for evaluation in evaluations]
        firsts = [arm.label for arm in arms if arm.policy == arms[0].policy]
        others = [arm.label for arm in arms if arm.policy != arms[0].policy]
        spec = CompareSpec(
            problems=test,
            evaluations=tuple(evaluations),
            baseline="base" if "base" in labels else labels[0],
            contrasts=tuple((firsts[-1], other) for other in others),
            resamples=self.recipe.evaluation.resamples,
            seed=self.recipe.evaluation.seed,
        )
        after = (test, *(ref for one in evaluations for ref in (one.completions, one.grades)))
        compared = self._add("compare", spec, after=after, name="comparison")
        trained = tuple(ref for arm in arms for ref in (arm.selected, arm.trained) if ref)
        report = ReportSpec(
            run_name=self.recipe.name,
            compare=compared,
            comparison=spec,
            arms=tuple(arms),
            sampled=tuple(ref for one in rounds for ref in one.completions),
            graded=tuple(ref for one in rounds for ref in one.grades),
            train_problems=train,
            licenses=self._licenses(),
            recipe_json=self.recipe.model_dump_json(),
        )
        self._add("report", report, after=(compared, *trained), name="report")

    # --- parts of the loop ------------------------------------------------------------------------------------------

    def _sample_only(self) -> None:
        if self.recipe.sampling.enough:
            self._sampled_completions()
            return
        model = self._model(self.recipe.models.teacher)
        problems = self._problems("train", self.recipe.data.train)
        gates = self._train_gates(model, problems)
        for sampling in self._passes():
            spec = SampleSpec(
                problems=problems,
                model=model,
                role=Role.TEACHER,
                round=1,
                prompt=self.recipe.prompt,
                sampling=sampling,
                engine=self.recipe.engine,
            )
            self._add("sample", spec, after=(problems, *gates), shards_of=problems, name="completions")

    def _given_completions(self) -> tuple[str, _Graded]:
        problems = self._problems("train", self.recipe.data.train)
        source = self.recipe.given.completions
        completions = self._given("completions", source, problems)
        given = self.recipe.given.grades
        if given is not None:
            grades = self._given("grades", given, problems)
        else:
            self._gold_gates(problems)
            grades = self._grade("given", completions, problems, "given")
        return problems, _Graded((completions,), (grades,))

    def _given(self, table: str, source: DataSource | None, problems: str | None) -> str:
        if source is None:
            raise RecipeError(f"given.{table} is missing.", "Name a file, an upload or an artifact.")
        if source.artifact:
            self.names[table] = source.artifact
            return source.artifact
        spec = PrepareSpec.model_validate(
            {
                "table": table,
                "source": source,
                "fingerprint": self.bindings.data.get(source.name),
                "rows_per_part": self.recipe.problems_per_shard,
                "problems": problems,
            }
        )
        return self._add(f"prepare · {table}", spec, after=(problems,) if problems else (), name=table)

    def _grade_only(self) -> None:
        self._given_completions()

    def _sampled_completions(self) -> tuple[str, _Graded]:
        teacher = self._model(self.recipe.models.teacher)
        problems = self._problems("train", self.recipe.data.train)
        gates = (*self._gold_gates(problems), *self._train_gates(teacher, problems))
        return problems, self._sample_train(teacher, problems, 1, gates)

    def _select_only(self) -> None:
        given = self.recipe.given.completions is not None
        problems, graded = self._given_completions() if given else self._sampled_completions()
        tests = (self._problems("test", self.recipe.data.test),) if self.recipe.data.test else ()
        for policy in self.recipe.selection:
            self._select(policy.label, policy, problems, tests, graded, 1)

    def _train_only(self) -> None:
        selected = self._given("selected", self.recipe.given.selected, None)
        start = self._model(self.recipe.models.student)
        teacher = self.recipe.models.teacher
        self._train("given", selected, start, "given", 1, teacher.name if teacher else "given solutions")

    def _evaluate_only(self) -> None:
        test = self._problems("test", self.recipe.data.test)
        gold = self._gold_gates(test)
        evaluations = []
        for source in self.recipe.models.evaluate:
            model = self._model(source)
            gates = (*gold, *self._test_gates(model, test))
            evaluations.append(self._evaluate(source.name, Role.STUDENT, 1, model, test, gates))
        self._compare_and_report(test, evaluations, [], [], None)

    def _compare_only(self) -> None:
        evaluations = [Evaluation.model_validate(one["evaluation"]) for one in self.bindings.evaluations]
        problems = {str(one["problems"]) for one in self.bindings.evaluations}
        if len(problems) != 1:
            raise RecipeError("The runs were evaluated on different test problems.", "Compare runs with one test set.")
        self._compare_and_report(problems.pop(), evaluations, [], [], None)

    # --- gates and names --------------------------------------------------------------------------------------------

    def _problems(self, name: str, source: DataSource | None, exclude: str | None = None) -> str:
        if source is None:
            raise RecipeError(f"data.{name} is missing.", "Name a data set.")
        if source.artifact:
            self.names[f"problems/{name}"] = source.artifact
            return source.artifact
        spec = PrepareSpec(
            source=source,
            fingerprint=self.bindings.data.get(source.name),
            rows_per_part=self.recipe.problems_per_shard,
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
            model=model, problems=problems, prompt=recipe.prompt, max_tokens=max_tokens, engine=recipe.engine
        )
        after = (problems, model.location) if model.kind == "artifact" and self._made_here(model) else (problems,)
        return (self._add(f"check model · {model.name} · {self._name_of(problems)}", spec, after=after),)

    def _train_gates(self, model: ModelRef, problems: str) -> tuple[str, ...]:
        return self._model_gates(model, problems, self.recipe.sampling.max_tokens)

    def _test_gates(self, model: ModelRef, problems: str) -> tuple[str, ...]:
        return self._model_gates(model, problems, self.recipe.evaluation.max_tokens)

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


def _slug(label: str) -> str:
    return label.replace(" · ", "-").replace(" ", "-")
