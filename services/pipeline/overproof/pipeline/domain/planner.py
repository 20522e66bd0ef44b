"""The stages of a plan: each method adds the artifacts of one stage, with what must be there before them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from overproof.pipeline.domain.nodes import Node
from overproof.shared.errors import RecipeError
from overproof.shared.recipe import DataSource, EngineOptions, ModelSource, SelectionPolicy
from overproof.shared.runs import RunRecord
from overproof.shared.specs import (
    Arm,
    ChangesSpec,
    CheckGoldSpec,
    CheckModelSpec,
    CompareSpec,
    Evaluation,
    GradeSpec,
    ModelRef,
    PrepareSpec,
    Regraded,
    ReportSpec,
    ReviewSpec,
    SampleSpec,
    Sampling,
    SelectSpec,
    Spec,
    TrainSpec,
    VoteSpec,
)
from overproof.shared.topology import Role


class Graded(NamedTuple):
    """Completions and their grades, one of each per sampling pass."""

    completions: tuple[str, ...]
    grades: tuple[str, ...]


class Planner:
    """Collects nodes, in the order in which they are added."""

    def __init__(self, record: RunRecord, earlier: Mapping[str, str]) -> None:
        """`earlier`: grades of this run → what the same completions were graded as before."""
        self.earlier = earlier
        self.recipe = record.recipe
        self.bindings = record.bindings
        self.nodes: dict[str, Node] = {}
        self.names: dict[str, str] = {}

    def _sample_train(self, teacher: ModelRef, problems: str, number: int, gates: tuple[str, ...]) -> Graded:
        graded = Graded((), ())
        for index, sampling in enumerate(self._passes(), 1):
            spec = SampleSpec(
                problems=problems,
                model=teacher,
                role=Role.TEACHER,
                round=number,
                prompt=self.recipe.prompt,
                sampling=sampling,
                engine=self._engine(teacher),
                graded=graded.grades,
                enough=self.recipe.sampling.enough if graded.grades else None,
            )
            name = f"round {number} · pass {index}"
            one = self._graded(f"teacher · {name}", spec, gates, f"train/round-{number}/pass-{index}")
            graded = Graded((*graded.completions, *one.completions), (*graded.grades, *one.grades))
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
        graded: Graded,
        start: ModelRef,
        teacher: ModelRef,
        votes: str | None,
    ) -> tuple[Arm, ModelRef]:
        several = len(self.recipe.selection) > 1
        label = f"round {number} · {policy.label}" if several else f"round {number}"
        selected = self._select(label, policy, train, (test,), graded, number, votes)
        trained = self._train(label, selected, start, policy.label, number, teacher.name, train)
        student = ModelRef(name=label, kind="artifact", location=trained)
        return Arm(label=label, round=number, policy=policy.label, selected=selected, trained=trained), student

    def _select(
        self,
        label: str,
        policy: SelectionPolicy,
        train: str,
        tests: tuple[str, ...],
        graded: Graded,
        number: int,
        votes: str | None,
    ) -> str:
        voted = policy.labels == "majority"
        spec = SelectSpec(
            problems=train,
            completions=graded.completions,
            grades=graded.grades,
            tests=tests,
            policy=policy,
            prompt=self.recipe.prompt,
            seed=self.recipe.training.seed,
            votes=votes if voted else None,
            rule=self.recipe.majority if voted else None,
        )
        after = (train, *tests, *graded.completions, *graded.grades, *((votes,) if voted and votes else ()))
        return self._add(f"select · {label}", spec, after=after, name=f"selected/round-{number}/{policy.label}")

    def _train(
        self, label: str, selected: str, start: ModelRef, policy: str, number: int, teacher: str, problems: str | None
    ) -> str:
        golds = problems if self.recipe.training.probe else None
        spec = TrainSpec(
            selected=selected,
            student=start,
            options=self.recipe.training,
            policy=policy,
            round=number,
            teacher=teacher,
            licenses=self._licenses(),
            problems=golds,
            grading=self.recipe.grading if golds else None,
        )
        inputs = (selected, start.location if start.kind == "artifact" else None, golds)
        after = tuple(ref for ref in inputs if ref)
        return self._add(f"train · {label}", spec, after=after, name=f"student/round-{number}/{policy}")

    # --- what the completions agree on -------------------------------------------------------------------------------

    def _vote(self, label: str, problems: str, graded: Graded, number: int) -> str:
        """Votes of a round's completions; of those made here, shard by shard as they are graded."""
        spec = VoteSpec(problems=problems, grades=graded.grades, options=self.recipe.grading)
        here = tuple(ref for ref in graded.grades if ref in self.nodes)
        before = tuple(ref for ref in graded.grades if ref not in self.nodes)
        return self._add(
            f"vote · {label}",
            spec,
            after=(problems, *before),
            along=here,
            shards_of=problems,
            name=f"votes/round-{number}",
        )

    def _review(self, problems: str, votes: dict[int, str]) -> str | None:
        """The gold answers to look at; None when nobody voted."""
        if not votes:
            return None
        spec = ReviewSpec(problems=problems, votes=tuple(votes.items()), rule=self.recipe.majority)
        return self._add("review", spec, after=(problems, *votes.values()), name="gold_review")

    def _changes(self) -> str | None:
        """Verdicts that were others before; None when no completions of this run had been graded otherwise."""
        regraded = [
            Regraded(label=node.label.removeprefix("grade · "), before=self.earlier[ref], after=ref)
            for ref, node in self.nodes.items()
            if ref in self.earlier
        ]
        if not regraded:
            return None
        spec = ChangesSpec(regraded=tuple(regraded))
        after = tuple(ref for one in regraded for ref in (one.before, one.after))
        return self._add("changes", spec, after=after, name="changes")

    def _can_agree(self) -> bool:
        """Whether so many completions are drawn that a majority can be clear."""
        return self.recipe.sampling.max_samples >= self.recipe.majority.min_votes

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
            engine=self._engine(model),
        )
        graded = self._graded(f"test · {label}", spec, gates, f"test/{slug(label)}")
        return Evaluation(
            label=label,
            role=role,
            round=number,
            model=model.name,
            completions=graded.completions[0],
            grades=graded.grades[0],
        )

    def _graded(self, label: str, spec: SampleSpec, gates: tuple[str, ...], name: str) -> Graded:
        completions = self._add(
            f"sample · {label}",
            spec,
            after=(spec.problems, *gates),
            along=spec.graded,
            shards_of=spec.problems,
            name=f"completions/{name}",
        )
        grades = self._grade(label, completions, spec.problems, name)
        return Graded((completions,), (grades,))

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
        rounds: list[Graded],
        train: str | None,
        review: str | None = None,
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
        changes = self._changes()
        report = ReportSpec(
            run_name=self.recipe.name,
            compare=compared,
            comparison=spec,
            arms=tuple(arms),
            sampled=tuple(ref for one in rounds for ref in one.completions),
            graded=tuple(ref for one in rounds for ref in one.grades),
            review=review,
            changes=changes,
            train_problems=train,
            licenses=self._licenses(),
            recipe_json=self.recipe.model_dump_json(),
        )
        further = tuple(ref for ref in (review, changes) if ref)
        self._add("report", report, after=(compared, *trained, *further), name="report")

    # --- gates and names --------------------------------------------------------------------------------------------

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


def slug(label: str) -> str:
    """A label as part of an artifact's name."""
    return label.replace(" · ", "-").replace(" ", "-")
