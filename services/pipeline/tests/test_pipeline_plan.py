"""The plan of a recipe: keys, order, gates, parts of the loop."""

from __future__ import annotations

from typing import Any

import pytest

from overproof.pipeline.domain.nodes import SCHEMA_OF_STAGE, Plan
from overproof.pipeline.domain.plan import plan
from overproof.shared.errors import RecipeError
from overproof.shared.recipe import GradingOptions, Recipe
from overproof.shared.runs import Bindings, RunRecord
from overproof.shared.specs import AuditSpec, ModelRef, ReviewSpec, SampleSpec, SelectSpec, TrainSpec, VoteSpec
from overproof.shared.tables import SCHEMAS
from overproof.shared.topology import Stage

MODELS = {name: ModelRef(name=name, kind="folder", location=name, fingerprint="f") for name in ("big", "small")}
LOOP: dict[str, Any] = {
    "name": "loop",
    "data": {"train": {"file": "a.jsonl"}, "test": {"file": "b.jsonl"}},
    "models": {"teacher": "big", "student": "small"},
    "sampling": {"samples_per_pass": 2, "max_samples": 5, "enough": 1},
}


def made(**change: Any) -> Plan:
    recipe = Recipe.model_validate({**LOOP, **change})
    return plan(
        RunRecord(run_id="r", created_at=0, recipe=recipe, bindings=Bindings(models=MODELS, data={"a.jsonl": "1"}))
    )


def labels(plan: Plan, stage: Stage) -> list[str]:
    return [node.label for node in plan.nodes if node.spec.stage is stage]


def test_every_input_comes_before_its_user() -> None:
    before: set[str] = set()
    for node in made(rounds=3, selection=[{"policy": "shortest"}, {"policy": "all"}]).nodes:
        assert set(node.after) <= before
        assert set(node.along) <= before
        before.add(node.ref)


def test_same_recipe_gives_the_same_keys_and_a_change_only_what_follows() -> None:
    one, same, other = made(), made(), made(training={"epochs": 9})
    assert one == same
    changed = {node.label for node, new in zip(one.nodes, other.nodes, strict=True) if node.ref != new.ref}
    assert changed == {
        "check student · small",
        "train · round 1",
        "sample · test · round 1",
        "grade · test · round 1",
        "compare",
        "report",
    }


def test_passes_are_adaptive_and_never_exceed_max_samples() -> None:
    passes = [node.spec for node in made().nodes if isinstance(node.spec, SampleSpec) and len(node.label) > 30]
    assert [(spec.sampling.first_sample, spec.sampling.samples) for spec in passes] == [(0, 2), (2, 2), (4, 1)]
    assert [spec.enough for spec in passes] == [None, 1, 1]
    assert [len(spec.graded) for spec in passes] == [0, 1, 2]


def test_quota_and_limit_belong_to_the_passes_that_depend_on_verdicts() -> None:
    sampling = {"samples_per_pass": 2, "max_samples": 5, "enough": 2}
    uniform, difficulty = made(sampling=sampling), made(sampling=sampling | {"quota": "difficulty"})
    specs = [node.spec for node in difficulty.nodes if isinstance(node.spec, SampleSpec) and len(node.label) > 30]
    assert [(spec.quota, spec.max_samples) for spec in specs] == [
        ("uniform", None),
        ("difficulty", 5),
        ("difficulty", 5),
    ]
    first = "completions/train/round-1/pass-1"
    assert uniform.names[first] == difficulty.names[first]
    with pytest.raises(ValueError, match="say how many are enough"):
        made(sampling={"max_samples": 4, "quota": "difficulty"})


def test_without_enough_there_is_one_pass() -> None:
    sampling = {"samples_per_pass": 2, "max_samples": 6}
    assert labels(made(sampling=sampling), Stage.SAMPLE)[0] == "sample · teacher · round 1 · pass 1"
    assert len(labels(made(sampling=sampling), Stage.GRADE)) == 4


def test_nothing_is_sampled_before_every_check() -> None:
    result = made()
    checks = {node.ref for node in result.nodes if node.spec.stage in (Stage.CHECK_GOLD, Stage.CHECK_MODEL)}
    assert len(checks) == 4
    first = next(node for node in result.nodes if node.spec.stage is Stage.SAMPLE)
    assert checks <= set(first.after)


def test_trainings_wait_for_the_check_of_their_student_and_sampling_does_not() -> None:
    result = made(rounds=2, selection=[{"policy": "shortest"}, {"policy": "all"}])
    (check,) = (node for node in result.nodes if node.spec.stage is Stage.CHECK_STUDENT)
    assert check.after == (result.names["problems/train"],)
    waiting = [node.label for node in result.nodes if check.ref in node.after]
    assert waiting == labels(result, Stage.TRAIN)
    assert len(waiting) == 4


def test_student_teaches_the_next_round_and_learns_from_the_base_again() -> None:
    result = made(rounds=2)
    trains = [node for node in result.nodes if isinstance(node.spec, TrainSpec)]
    second = next(node.spec for node in result.nodes if node.label.startswith("sample · teacher · round 2"))
    assert isinstance(second, SampleSpec)
    assert second.model.location == trains[0].ref
    assert [node.spec.student.name for node in trains if isinstance(node.spec, TrainSpec)] == ["small", "small"]
    again = made(rounds=2, training={"start_from": "previous"})
    last = [node for node in again.nodes if isinstance(node.spec, TrainSpec)][-1]
    assert last.spec.student.location in last.after  # type: ignore[attr-defined]


def test_votes_follow_the_grades_of_their_round_shard_by_shard_and_the_report_waits_for_the_review() -> None:
    result = made(rounds=2)
    votes = [node for node in result.nodes if isinstance(node.spec, VoteSpec)]
    assert [node.label for node in votes] == ["vote · round 1", "vote · round 2"]
    for number, node in enumerate(votes, 1):
        passes = tuple(result.names[f"grades/train/round-{number}/pass-{index}"] for index in (1, 2, 3))
        assert (node.along, node.shards_of) == (passes, result.names["problems/train"])
    review = result.names["gold_review"]
    report = next(node for node in result.nodes if node.spec.stage is Stage.REPORT)
    assert review in report.after


def test_training_with_a_probe_waits_for_the_golds_of_its_validation_problems() -> None:
    train = next(node for node in made(training={"probe": {"problems": 8}}).nodes if isinstance(node.spec, TrainSpec))
    assert isinstance(train.spec, TrainSpec)
    assert train.spec.problems in train.after
    assert train.spec.grading == GradingOptions()
    plain = next(node.spec for node in made().nodes if isinstance(node.spec, TrainSpec))
    assert isinstance(plain, TrainSpec)
    assert plain.problems is None
    given = {"goal": "train", "given": {"selected": {"file": "s.jsonl"}}, "training": {"probe": {}}}
    assert [node.spec.stage for node in made(**given).nodes] == [Stage.PREPARE, Stage.PREPARE, Stage.TRAIN]


MAJORITY: dict[str, Any] = {"selection": [{"policy": "shortest"}, {"policy": "shortest", "labels": "majority"}]}


def test_majority_labels_change_their_own_selection_and_what_follows_it_only() -> None:
    two, both = made(selection=[{"policy": "shortest"}, {"policy": "all"}]), made(**MAJORITY)
    lost = {name for name, ref in two.names.items() if ref not in both.names.values()}
    assert {name for name in lost if "all" not in name} == {"comparison", "report"}
    specs = [node.spec for node in both.nodes if isinstance(node.spec, SelectSpec)]
    assert [(spec.policy.label, spec.votes) for spec in specs] == [
        ("shortest", None),
        ("shortest-majority", both.names["votes/round-1"]),
    ]
    rule = made(**MAJORITY, majority={"min_votes": 4})
    changed = [name for name in both.names if both.names[name] != rule.names[name] and name.startswith("selected")]
    assert changed == ["selected/round-1/shortest-majority"]
    assert rule.names["votes/round-1"] == both.names["votes/round-1"]


def test_test_problems_are_never_voted_on_and_never_lack_an_answer() -> None:
    change = {"data": {**LOOP["data"], "on_ungradable": "keep"}, "rounds": 2}
    result = made(**MAJORITY, **change)
    test, train = result.names["problems/test"], result.names["problems/train"]
    specs = {node.ref: node.spec for node in result.nodes}
    assert {spec.problems for spec in specs.values() if isinstance(spec, VoteSpec | ReviewSpec)} == {train}
    assert (specs[train].missing_answers, specs[test].missing_answers) == ("keep", "error")  # type: ignore[attr-defined]
    plain = made(**change)
    assert {spec.key for spec in specs.values() if spec.stage is Stage.GRADE and spec.problems == test} >= {  # type: ignore[attr-defined]
        plain.names[f"grades/test/{name}"].partition("/")[2] for name in ("teacher", "base")
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"goal": "evaluate", "models": {"evaluate": ["big"]}}, "goal evaluate selects none"),
        ({"goal": "compare", "given": {"evaluations": ["a"]}}, "goal compare selects none"),
        ({"goal": "grade", "given": {"completions": {"file": "c.jsonl"}}}, "goal grade selects none"),
        ({"sampling": {"max_samples": 2}}, "raise it"),
    ],
)
def test_majority_labels_are_refused_where_they_make_no_sense(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        made(**MAJORITY, **change)


def test_one_evaluation_spec_for_all_models() -> None:
    specs = [node.spec for node in made(rounds=2).nodes if node.label.startswith("sample · test")]
    assert len({spec.likeness for spec in specs if isinstance(spec, SampleSpec)}) == 1
    assert len(specs) == 4


@pytest.mark.parametrize(
    ("change", "stages"),
    [
        ({"goal": "sample", "sampling": {"max_samples": 2}}, ["prepare", "check_model", "sample"]),
        (
            {"goal": "sample", "sampling": {"max_samples": 4, "samples_per_pass": 2, "enough": 1}},
            ["prepare", "check_gold", "check_model", "sample", "grade", "sample", "grade", "vote", "review"],
        ),
        (
            {"goal": "grade", "given": {"completions": {"file": "c.jsonl"}}},
            ["prepare", "prepare", "check_gold", "grade", "vote", "review"],
        ),
        (
            {"goal": "select", "given": {"completions": {"file": "c.jsonl"}, "grades": {"file": "g.jsonl"}}},
            ["prepare"] * 3 + ["vote", "review", "prepare", "select"],
        ),
        (
            {"goal": "select", "sampling": {"max_samples": 2}},
            ["prepare", "check_gold", "check_model", "sample", "grade", "prepare", "select"],
        ),
        (
            {"goal": "select", "sampling": {"max_samples": 3}},
            ["prepare", "check_gold", "check_model", "sample", "grade", "vote", "review", "prepare", "select"],
        ),
        ({"goal": "train", "given": {"selected": {"file": "s.jsonl"}}}, ["prepare", "train"]),
        (
            {"goal": "evaluate", "models": {"evaluate": ["big", "small"]}},
            [
                "prepare",
                "check_gold",
                "check_model",
                "sample",
                "grade",
                "check_model",
                "sample",
                "grade",
                "compare",
                "report",
            ],
        ),
    ],
)
def test_part_of_the_loop(change: dict[str, Any], stages: list[str]) -> None:
    assert [str(node.spec.stage) for node in made(**change).nodes] == stages


def test_compare_takes_evaluations_of_earlier_runs_and_refuses_unlike_problems() -> None:
    ref = {stage: f"{stage}/" + "0" * 32 for stage in ("prepare", "sample", "grade")}
    evaluation = {
        "label": "base",
        "role": "base",
        "round": 0,
        "model": "m",
        "completions": ref["sample"],
        "grades": ref["grade"],
    }
    one = {"evaluation": evaluation, "problems": ref["prepare"]}
    other = {"evaluation": {**evaluation, "label": "x"}, "problems": "prepare/" + "1" * 32}
    recipe = Recipe.model_validate({"name": "c", "goal": "compare", "given": {"evaluations": ["a", "b"]}})
    record = RunRecord(run_id="r", created_at=0, recipe=recipe, bindings=Bindings(evaluations=(one,)))
    assert [str(node.spec.stage) for node in plan(record).nodes] == ["compare", "report"]
    with pytest.raises(RecipeError, match="different test problems"):
        plan(record.model_copy(update={"bindings": Bindings(evaluations=(one, other))}))


def test_unbound_model_is_named() -> None:
    with pytest.raises(RecipeError, match="huge"):
        made(models={"teacher": "huge", "student": "small"})


def test_every_table_that_is_made_has_a_schema() -> None:
    assert set(SCHEMA_OF_STAGE.values()) <= set(SCHEMAS)


def test_names_lead_to_what_people_ask_for() -> None:
    names = made().names
    assert {"problems/train", "problems/test", "comparison", "report", "student/round-1/shortest"} <= set(names)


def test_an_audit_reads_all_grades_of_the_run_and_changes_no_other_key() -> None:
    plain, audited = made(), made(grading={"audit": 0.1})
    (node,) = (node for node in audited.nodes if node.spec.stage is Stage.AUDIT)
    grades = [one.ref for one in audited.nodes if one.spec.stage is Stage.GRADE]
    assert isinstance(node.spec, AuditSpec)
    assert [one.grades for one in node.spec.audited] == grades
    assert set(node.after) == set(grades)
    assert audited.names["audit"] == node.ref
    before = {one.ref for one in plain.nodes if one.spec.stage is not Stage.REPORT}
    assert {one.ref for one in audited.nodes if one.spec.stage is not Stage.REPORT} == before | {node.ref}
    assert labels(plain, Stage.AUDIT) == []


def test_an_audit_belongs_to_parts_of_the_loop_too() -> None:
    given = {"completions": {"artifact": f"sample/{'a' * 32}"}}
    data = {"test": None, "train": {"file": "a.jsonl"}}
    graded = made(goal="grade", models={}, sampling={}, data=data, given=given, grading={"audit": 1})
    assert labels(graded, Stage.AUDIT) == ["audit"]
