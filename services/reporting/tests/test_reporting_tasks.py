"""Select and compare through the worker: what is published, what is refused, and with which sentence."""

from __future__ import annotations

import json
from typing import Any

import pytest

from overproof.reporting.app import build
from overproof.reporting.settings import ReportingSettings
from overproof.shared.recipe import PromptOptions, SelectionPolicy
from overproof.shared.specs import CompareSpec, Evaluation, SelectSpec
from overproof.shared.tables import COMPARISON, GRADES, PROBLEMS, SELECTED
from overproof.shared.topology import Role


def select_spec(problems: str, passes: list[tuple[str, str]], tests: tuple[str, ...], **policy: Any) -> SelectSpec:
    return SelectSpec(
        problems=problems,
        completions=tuple(completions for completions, _ in passes),
        grades=tuple(grades for _, grades in passes),
        tests=tests,
        policy=SelectionPolicy(**policy),
        prompt=PromptOptions(),
    )


def evaluation(label: str, refs: tuple[str, str], role: Role = Role.STUDENT, round: int = 1) -> Evaluation:
    return Evaluation(label=label, role=role, round=round, model=label, completions=refs[0], grades=refs[1])


@pytest.fixture
def trained(world):
    """Training problems in three parts with two sampling passes, and a disjoint test set."""
    problems = world.problems(120, name="train", groups="t")
    passes = [
        world.evaluate(problems, name="teacher", accuracy=0.8, tokens=90, samples=3, role=Role.TEACHER),
        world.evaluate(problems, name="teacher", accuracy=0.8, tokens=90, samples=2, first_sample=3, role=Role.TEACHER),
    ]
    return problems, passes, world.problems(40)


def test_selection_streams_all_passes_and_notes_what_it_kept(world, trained) -> None:
    problems, passes, tests = trained
    ref = world.make(select_spec(problems, passes, (tests,), policy="shortest"))
    rows = [row for batch in world.artifacts.read(ref, SELECTED) for row in batch.to_pylist()]
    notes = world.artifacts.manifest(ref).notes[0]
    assert len({row["problem_id"] for row in rows}) == len(rows) == notes["rows"] > 100
    assert (notes["problems"], notes["completions"], notes["test_groups"]) == (120, 600, 40)
    assert {row["sample"] for row in rows} == {0, 1, 2, 3, 4}
    assert notes["tokens"] == sum(row["n_tokens"] for row in rows) < notes["tokens_correct"]


def test_the_global_median_halves_the_correct_completions(world, trained) -> None:
    problems, passes, tests = trained
    every = world.artifacts.manifest(world.make(select_spec(problems, passes, (tests,), policy="all"))).notes[0]
    half = world.artifacts.manifest(
        world.make(select_spec(problems, passes, (tests,), policy="below_median_global"))
    ).notes[0]
    assert 0.48 < half["rows"] / every["rows"] < 0.55


def test_a_test_problem_among_the_rows_fails_the_shard(world, trained) -> None:
    problems, passes, _ = trained
    leaky = world.problems(40, name="test", groups="t")
    assert "are also test problems" in world.failure(select_spec(problems, passes, (leaky,), policy="shortest"))


def test_grades_of_other_completions_are_refused(world, trained) -> None:
    problems, passes, tests = trained
    mixed = [(passes[0][0], passes[1][1])]
    assert "are not those of" in world.failure(select_spec(problems, mixed, (tests,), policy="all"))


def test_parts_that_do_not_belong_together_are_refused(world, trained) -> None:
    _, passes, tests = trained
    assert "has 3 parts but" in world.failure(select_spec(tests, passes, (), policy="all"))


@pytest.fixture
def evaluated(world):
    """Three models on 150 problems in three parts."""
    problems = world.problems(150)
    models = (
        evaluation("teacher", world.evaluate(problems, name="teacher", accuracy=0.95, tokens=120), Role.TEACHER, 0),
        evaluation("base", world.evaluate(problems, name="base", accuracy=0.4, tokens=100), Role.BASE, 0),
        evaluation("round 1", world.evaluate(problems, name="student", accuracy=0.75, tokens=50)),
    )
    return problems, models


def test_comparison_adds_up(world, evaluated) -> None:
    problems, models = evaluated
    ref = world.make(
        CompareSpec(problems=problems, evaluations=models, baseline="base", contrasts=(("round 1", "teacher"),))
    )
    rows = [row for batch in world.artifacts.read(ref, COMPARISON, part=0) for row in batch.to_pylist()]
    assert len(rows) == 3 * (1 + 5 + 4)
    student = next(row for row in rows if row["model"] == "round 1" and row["slice"] == "all")
    assert student["accuracy_low"] < student["accuracy"] < student["accuracy_high"]
    assert 0 < student["accuracy_difference_low"] < student["accuracy_difference"]
    assert student["tokens_ratio_high"] < 1
    assert student["mcnemar_p"] < 0.05
    for name in ("level", "type"):
        parts = [row for row in rows if row["model"] == "round 1" and row["slice"] == name]
        assert sum(row["n"] for row in parts) == 150
        assert sum(row["won"] - row["lost"] for row in parts) == student["won"] - student["lost"]
        assert sum(row["n"] * row["accuracy"] for row in parts) == pytest.approx(150 * student["accuracy"])
    base = next(row for row in rows if row["model"] == "base" and row["slice"] == "all")
    assert base["accuracy_difference"] is base["tokens_ratio"] is base["won"] is base["mcnemar_p"] is None

    facts = read_json(world, ref, "comparison.json")
    overall = facts["models"]["round 1"]["overall"]
    assert overall["accuracy"] == pytest.approx(student["accuracy"]) == overall["correct"] / overall["total"]
    assert sum(level["total"] for level in facts["models"]["base"]["by_level"].values()) == 150
    assert [(c["first"], c["second"]) for c in facts["contrasts"]] == [
        ("teacher", "base"), ("round 1", "base"), ("round 1", "teacher"),
    ]  # fmt: skip
    ours = facts["contrasts"][1]
    assert ours["won"] + ours["lost"] + ours["same_right"] + ours["same_wrong"] == 150
    assert ours["shorter"] + ours["longer"] <= ours["tokens_ratio_same_problems"]["n"]


def test_examples_show_losses_first_with_both_texts(world, evaluated) -> None:
    problems, models = evaluated
    ref = world.make(CompareSpec(problems=problems, evaluations=models, baseline="base"))
    examples = read_json(world, ref, "won_lost.json")
    outcomes = [example["outcome"] for example in examples]
    assert outcomes == sorted(outcomes, key=["lost", "won"].index)
    assert set(outcomes) == {"lost", "won"}
    for example in examples:
        mine, theirs = example["completions"]
        assert (mine["model"], theirs["model"]) == ("round 1", "base")
        assert (mine["verdict"] == "correct") == (example["outcome"] == "won") != (theirs["verdict"] == "correct")
        assert mine["text"]
        assert example["problem"].startswith("Let $x_")


def test_the_same_spec_gives_the_same_bytes(world, evaluated, tmp_path) -> None:
    problems, models = evaluated
    spec = CompareSpec(problems=problems, evaluations=models, baseline="base", resamples=200)
    first = world.artifacts.parts(world.make(spec))
    world.files.move(f"artifacts/{spec.ref}", "artifacts/compare/before")
    world.artifacts._manifests.clear()
    assert world.artifacts.parts(world.make(spec)) == first


def test_several_samples_and_ungradable_golds(world) -> None:
    problems = world.problems(60)
    models = (
        evaluation("base", world.evaluate(problems, name="base", accuracy=0.4, tokens=100, samples=4), Role.BASE, 0),
        evaluation(
            "round 1",
            world.evaluate(problems, name="student", accuracy=0.7, tokens=50, samples=4, verdict="ungradable"),
        ),
    )
    ref = world.make(CompareSpec(problems=problems, evaluations=models, baseline="base"))
    facts = read_json(world, ref, "comparison.json")
    student = facts["models"]["round 1"]
    assert student["verdicts"]["ungradable"] == 2  # the first row of each part
    assert student["overall"]["total"] == 60 * 4 - 2
    unjudged = [example for example in read_json(world, ref, "won_lost.json") if example["outcome"] == "unjudged"]
    assert [example["completions"][0]["verdict"] for example in unjudged] == ["ungradable"] * 2


def test_unlike_evaluations_are_refused_by_both_names(world, evaluated) -> None:
    problems, models = evaluated
    other = evaluation("round 2", world.evaluate(problems, name="late", accuracy=0.9, tokens=50, max_tokens=800))
    message = world.failure(CompareSpec(problems=problems, evaluations=(*models, other), baseline="base"))
    assert "teacher and round 2 cannot be compared" in message


def test_an_unknown_label_is_refused(world, evaluated) -> None:
    problems, models = evaluated
    message = world.failure(CompareSpec(problems=problems, evaluations=models, baseline="bare"))
    assert "names bare; its evaluations are teacher, base, round 1" in message


def test_one_evaluation_alone_has_no_contrast(world) -> None:
    problems = world.problems(20)
    models = (evaluation("base", world.evaluate(problems, name="base", accuracy=0.0, tokens=20), Role.BASE, 0),)
    facts = read_json(
        world, world.make(CompareSpec(problems=problems, evaluations=models, baseline="base")), "comparison.json"
    )
    assert (facts["best"], facts["contrasts"], facts["problems_common_correct"]) == (None, [], 0)
    assert facts["models"]["base"]["overall"] == {"accuracy": 0.0, "correct": 0, "total": 20}


def test_two_of_a_kind_show_no_difference(world) -> None:
    problems = world.problems(50)
    refs = world.evaluate(problems, name="base", accuracy=1.0, tokens=20)
    models = (evaluation("base", refs, Role.BASE, 0), evaluation("twin", refs))
    facts = read_json(
        world, world.make(CompareSpec(problems=problems, evaluations=models, baseline="base")), "comparison.json"
    )
    twin = facts["contrasts"][0]
    assert (twin["won"], twin["lost"], twin["mcnemar_p"], twin["change"]) == (0, 0, 1.0, "unclear")
    assert twin["accuracy_difference"]["low"] < 0 < twin["accuracy_difference"]["high"]
    assert twin["tokens_ratio"] == {"value": 1.0, "low": 1.0, "high": 1.0, "n": 50}


def read_json(world, ref: str, name: str) -> Any:
    return json.loads(world.files.read(f"artifacts/{ref}/{name}"))


def test_a_missing_problem_is_named(world) -> None:
    problems, others = world.problems(20), world.problems(20, name="train")
    models = (evaluation("base", world.evaluate(others, name="base", accuracy=0.5, tokens=20), Role.BASE, 0),)
    assert "base has completions of a problem" in world.failure(
        CompareSpec(problems=problems, evaluations=models, baseline="base")
    )


def test_inputs_conform(world) -> None:
    problems = world.problems(10)
    grades = world.evaluate(problems, name="base", accuracy=0.5, tokens=20)[1]
    assert sum(batch.num_rows for batch in world.artifacts.read(problems, PROBLEMS)) == 10
    assert sum(batch.num_rows for batch in world.artifacts.read(grades, GRADES)) == 10


def test_the_worker_makes_all_its_stages_on_its_own_queue(tmp_path, redis_url) -> None:
    worker = build(ReportingSettings(storage=str(tmp_path), redis_url=redis_url))
    ours = [name for name in worker.app.tasks if name.startswith("reporting.")]
    assert sorted(ours) == [
        "reporting.changes",
        "reporting.compare",
        "reporting.report",
        "reporting.review",
        "reporting.select",
    ]
    assert worker.app.conf.task_default_queue == "reporting"
