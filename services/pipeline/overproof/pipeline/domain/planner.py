"""The stages of a plan: each method adds the artifacts of one stage, with what must be there before them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from overproof.pipeline.domain.foundation import Graded
from overproof.pipeline.domain.reviews import Reviews
from overproof.shared.recipe import SelectionPolicy
from overproof.shared.specs import (
    Arm,
    CompareSpec,
    Evaluation,
    GradeSpec,
    ModelRef,
    ReportSpec,
    SampleSpec,
    Sampling,
    SelectSpec,
    TrainSpec,
)
from overproof.shared.topology import Role, Stage


class Planner(Reviews):
    """Adds the artifacts of one stage after another."""

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
                **(self._stopping() if graded.grades else {}),
            )
            name = f"round {number} · pass {index}"
            one = self._graded(f"teacher · {name}", spec, gates, f"train/round-{number}/pass-{index}")
            graded = Graded((*graded.completions, *one.completions), (*graded.grades, *one.grades))
        return graded

    def _stopping(self) -> dict[str, Any]:
        """When a problem has enough, for the passes after the first."""
        options = self.recipe.sampling
        return {"enough": options.enough, "quota": options.quota, "max_samples": options.max_samples}

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
        trained = self._train(label, selected, start, policy.label, number, teacher.name, train, policy.labels)
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
        self,
        label: str,
        selected: str,
        start: ModelRef,
        policy: str,
        number: int,
        teacher: str,
        problems: str | None,
        labels: Literal["gold", "majority"] = "gold",
    ) -> str:
        golds = problems if self.recipe.training.probe else None
        spec = TrainSpec(
            selected=selected,
            student=start,
            options=self.recipe.training,
            policy=policy,
            labels=labels,
            round=number,
            teacher=teacher,
            licenses=self._licenses(),
            problems=golds,
            grading=self.recipe.grading.options if golds else None,
        )
        inputs = (selected, start.location if start.kind == "artifact" else None, golds)
        checks = (ref for ref, node in self.nodes.items() if node.spec.stage is Stage.CHECK_STUDENT)
        after = (*(ref for ref in inputs if ref), *checks)
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

    def _grade(self, label: str, completions: str, problems: str, name: str, gates: tuple[str, ...] = ()) -> str:
        spec = GradeSpec(completions=completions, problems=problems, options=self.recipe.grading.options)
        return self._add(
            f"grade · {label}",
            spec,
            after=(problems, *gates) if completions in self.nodes else (problems, completions, *gates),
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
        changes, audit = self._changes(), self._audit()
        report = ReportSpec(
            run_name=self.recipe.name,
            compare=compared,
            comparison=spec,
            arms=tuple(arms),
            sampled=tuple(ref for one in rounds for ref in one.completions),
            graded=tuple(ref for one in rounds for ref in one.grades),
            review=review,
            changes=changes,
            audit=audit,
            train_problems=train,
            licenses=self._licenses(),
            recipe_json=self.recipe.model_dump_json(),
        )
        further = tuple(ref for ref in (review, changes, audit) if ref)
        self._add("report", report, after=(compared, *trained, *further), name="report")


def slug(label: str) -> str:
    """A label as part of an artifact's name."""
    return label.replace(" · ", "-").replace(" ", "-")
