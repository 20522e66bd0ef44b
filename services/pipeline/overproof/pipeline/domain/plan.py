"""What a recipe needs: every artifact of the run, in the order of the loop, with what must be there before it.

All keys follow from the recipe and its bindings alone, so any process can make the same plan at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from overproof.pipeline.domain.foundation import Graded
from overproof.pipeline.domain.nodes import Plan
from overproof.pipeline.domain.planner import Planner, slug
from overproof.shared.errors import RecipeError
from overproof.shared.recipe import DataSource
from overproof.shared.runs import RunRecord
from overproof.shared.specs import (
    Arm,
    Evaluation,
    PrepareSpec,
    SampleSpec,
)
from overproof.shared.topology import Role

NOTHING: Mapping[str, str] = MappingProxyType({})


def plan(record: RunRecord, earlier: Mapping[str, str] = NOTHING) -> Plan:
    """The plan of a run; `earlier` as `earlier_grades` finds it. Raises RecipeError when a model was not bound."""
    return _Walk(record, earlier).plan()


class _Walk(Planner):
    """Walks the loop, or the part of it that the recipe names, once."""

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
        self._changes()
        self._audit()
        return Plan(tuple(self.nodes.values()), self.names)

    # --- the whole loop ---------------------------------------------------------------------------------------------

    def _distil(self) -> None:
        recipe = self.recipe
        base, teacher = self._model(recipe.models.student), self._model(recipe.models.teacher)
        test = self._problems("test", recipe.data.test)
        train = self._problems("train", recipe.data.train, exclude=test)
        gates = (*self._gold_gates(train, test), *self._train_gates(teacher, train), *self._test_gates(base, test))
        self._check_student(base, train)
        arms: list[Arm] = []
        graded_rounds: list[Graded] = []
        evaluations: list[Evaluation] = []
        votes: dict[int, str] = {}
        previous = base
        for number in range(1, recipe.rounds + 1):
            graded = self._sample_train(teacher, train, number, gates)
            graded_rounds.append(graded)
            if self._can_agree():
                votes[number] = self._vote(f"round {number}", train, graded, number)
            if number == 1:
                evaluations.append(self._evaluate("teacher", Role.TEACHER, 0, teacher, test, gates))
                evaluations.append(self._evaluate("base", Role.BASE, 0, base, test, gates))
            start = previous if recipe.training.start_from == "previous" else base
            vote = votes.get(number)
            students = [
                self._arm(policy, number, train, test, graded, start, teacher, vote) for policy in recipe.selection
            ]
            for arm, student in students:
                arms.append(arm)
                evaluations.append(self._evaluate(arm.label, Role.STUDENT, number, student, test, (student.location,)))
            teacher = previous = students[0][1]
        self._compare_and_report(test, evaluations, arms, graded_rounds, train, self._review(train, votes))

    # --- parts of the loop ------------------------------------------------------------------------------------------

    def _sample_only(self) -> None:
        if self.recipe.sampling.enough:
            problems, graded = self._sampled_completions()
            if self._can_agree():
                self._review(problems, {1: self._vote("round 1", problems, graded, 1)})
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
                engine=self._engine(model),
            )
            self._add("sample", spec, after=(problems, *gates), shards_of=problems, name="completions")

    def _given_completions(self) -> tuple[str, Graded]:
        problems = self._problems("train", self.recipe.data.train)
        source = self.recipe.given.completions
        completions = self._given("completions", source, problems)
        given = self.recipe.given.grades
        if given is not None:
            grades = self._given("grades", given, problems)
        else:
            gates = self._gold_gates(problems)
            grades = self._grade("given", completions, problems, "given", gates)
        graded = Graded((completions,), (grades,))
        for index, further in enumerate(self.recipe.given.further_completions, 2):
            name = f"given · pass {index}"
            self.names[f"completions/pass-{index}"] = further
            grades = self._grade(name, further, problems, f"given/pass-{index}", self._gold_gates(problems))
            graded = Graded((*graded.completions, further), (*graded.grades, grades))
        return problems, graded

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
        problems, graded = self._given_completions()
        self._review(problems, {1: self._vote("given", problems, graded, 1)})

    def _sampled_completions(self) -> tuple[str, Graded]:
        teacher = self._model(self.recipe.models.teacher)
        problems = self._problems("train", self.recipe.data.train)
        gates = (*self._gold_gates(problems), *self._train_gates(teacher, problems))
        return problems, self._sample_train(teacher, problems, 1, gates)

    def _select_only(self) -> None:
        given = self.recipe.given.completions is not None
        problems, graded = self._given_completions() if given else self._sampled_completions()
        votes = None
        if given or self._can_agree():
            votes = self._vote("given" if given else "round 1", problems, graded, 1)
            self._review(problems, {1: votes})
        tests = (self._problems("test", self.recipe.data.test),) if self.recipe.data.test else ()
        for policy in self.recipe.selection:
            self._select(policy.label, policy, problems, tests, graded, 1, votes)

    def _train_only(self) -> None:
        selected = self._given("selected", self.recipe.given.selected, None)
        start = self._model(self.recipe.models.student)
        teacher = self.recipe.models.teacher
        watched = self.recipe.training.probe and self.recipe.data.train
        problems = self._problems("train", self.recipe.data.train) if watched else None
        self._train("given", selected, start, "given", 1, teacher.name if teacher else "given solutions", problems)

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
        tables = {str(one["problems"]) for one in self.bindings.evaluations}
        if len(tables) != 1:
            raise RecipeError("The runs were evaluated on different test problems.", "Compare runs with one test set.")
        (problems,) = tables
        if self.recipe.given.regrade:
            evaluations = [self._regraded(one, problems) for one in evaluations]
        self._compare_and_report(problems, evaluations, [], [], None)

    def _regraded(self, evaluation: Evaluation, problems: str) -> Evaluation:
        label = evaluation.label
        grades = self._grade(f"test · {label}", evaluation.completions, problems, f"test/{slug(label)}")
        return evaluation.model_copy(update={"grades": grades})
