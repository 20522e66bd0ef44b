"""Another grader, or other grading options: completions are judged again, and none is sampled again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from overproof.pipeline.domain import planner, reviews
from overproof.shared.recipe import Recipe
from overproof.shared.runs import Bindings, RunRecord, RunState
from overproof.shared.specs import ChangesSpec, CompareSpec, GradeSpec, ReportSpec, VoteSpec

ONE_PASS: dict[str, Any] = {"max_samples": 4, "temperature": 1.0}
STRICT: dict[str, Any] = {"grading": {"strict": True}}


def made_by(site: Any, run_id: str, **change: Any) -> set[str]:
    """The stages that had to be made for a run."""
    before = len(site.made)
    site.submit(run_id, **change)
    assert site.run(run_id=run_id).state is RunState.SUCCEEDED
    return {made.partition("/")[0] for made in site.made[before:]}


def changes_of(site: Any, run_id: str) -> ChangesSpec | None:
    ref = site.status(run_id).artifacts.get("changes")
    return None if ref is None else site.worker.artifacts.spec(ref)


class NextGradeSpec(GradeSpec):
    grader: str = "next"


class NextVoteSpec(VoteSpec):
    grader: str = "next"


def next_version(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan as a release with another grader would."""
    monkeypatch.setattr(planner, "GradeSpec", NextGradeSpec)
    monkeypatch.setattr(reviews, "VoteSpec", NextVoteSpec)


@pytest.mark.parametrize("why", ["options", "version"])
def test_the_same_completions_are_graded_again_without_inference(
    site: Any, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = {"goal": "select", "sampling": ONE_PASS}
    made_by(site, "a", **recipe)
    if why == "version":
        next_version(monkeypatch)
    stages = made_by(site, "b", **recipe, **(STRICT if why == "options" else {}))
    assert stages == {"grade", "vote", "review", "select", "changes"}
    a, b = site.status("a").artifacts, site.status("b").artifacts
    name = "train/round-1/pass-1"
    assert a[f"completions/{name}"] == b[f"completions/{name}"]
    changes = changes_of(site, "b")
    assert [(one.label, one.before, one.after) for one in changes.regraded] == [
        ("teacher · round 1 · pass 1", a[f"grades/{name}"], b[f"grades/{name}"])
    ]
    assert changes_of(site, "a") is None


def test_a_whole_run_samples_only_its_new_students(site: Any) -> None:
    made_by(site, "a", sampling=ONE_PASS)
    site.submit("b", sampling=ONE_PASS, **STRICT)
    before = len(site.made)
    status = site.run(run_id="b")
    sampled = {made.rpartition("/")[0] for made in site.made[before:] if made.startswith("sample/")}
    assert {stage.label for stage in status.stages if stage.ref in sampled} == {"sample · test · round 1"}
    changes = changes_of(site, "b")
    assert [one.label for one in changes.regraded] == ["teacher · round 1 · pass 1", "test · teacher", "test · base"]
    report = site.worker.artifacts.spec(status.artifacts["report"])
    assert isinstance(report, ReportSpec)
    assert report.changes == changes.ref


def test_what_was_before_is_settled_when_a_run_is_first_planned(site: Any) -> None:
    recipe = {"goal": "select", "sampling": ONE_PASS}
    made_by(site, "a", **recipe)
    made_by(site, "b", **recipe, **STRICT)
    planned = site.status("b")
    site.worker.artifacts.files.delete("runs/b/status.json")
    site.restart()
    assert site.run(run_id="b").artifacts == planned.artifacts
    assert made_by(site, "again", **recipe, **STRICT) == set()
    assert changes_of(site, "again") == changes_of(site, "b")
    assert made_by(site, "first-again", **recipe) == set()
    assert changes_of(site, "first-again") is None


def test_the_last_grading_before_is_compared_with(site: Any) -> None:
    recipe = {"goal": "select", "sampling": ONE_PASS}
    for run_id, grading in (("a", {}), ("b", {"strict": True}), ("c", {"order_matters": True})):
        made_by(site, run_id, **recipe, grading=grading)
    name = "grades/train/round-1/pass-1"
    (one,) = changes_of(site, "c").regraded
    assert (one.before, one.after) == (site.status("b").artifacts[name], site.status("c").artifacts[name])


def test_evaluations_of_a_run_are_judged_again_without_sampling_or_training(site: Any) -> None:
    made_by(site, "a", sampling=ONE_PASS)
    artifacts = site.worker.artifacts
    old = artifacts.spec(site.status("a").artifacts["comparison"])
    assert isinstance(old, CompareSpec)
    evaluations = tuple(
        {"evaluation": one.model_dump(mode="json"), "problems": old.problems} for one in old.evaluations
    )
    given = {"evaluations": ["a"], "regrade": True}
    recipe = Recipe.model_validate({"name": "again", "goal": "compare", "given": given, **STRICT})
    record = RunRecord(run_id="b", created_at=0, recipe=recipe, bindings=Bindings(evaluations=evaluations))
    before = len(site.made)
    assert site.runs.create(record)
    status = site.run(run_id="b")
    assert {made.partition("/")[0] for made in site.made[before:]} == {"grade", "changes", "compare", "report"}
    new = artifacts.spec(status.artifacts["comparison"])
    assert [(one.label, one.completions) for one in new.evaluations] == [
        (one.label, one.completions) for one in old.evaluations
    ]
    assert all(artifacts.spec(one.grades).options.strict for one in new.evaluations)
    assert [one.before for one in changes_of(site, "b").regraded] == [one.grades for one in old.evaluations]


def test_given_completions_are_graded_again(site: Any) -> None:
    root = Path(site.worker.artifacts.files.root)
    root.mkdir(parents=True, exist_ok=True)
    (root / "p.jsonl").write_text('{"problem": "What is 1 + 1?", "answer": "2"}\n')
    (root / "c.jsonl").write_text('{"problem": "What is 1 + 1?", "solution": "right", "num_tokens": 3}\n')
    site.settings.data_root = root
    recipe = {"goal": "grade", "data": {"train": {"file": "p.jsonl"}}, "given": {"completions": {"file": "c.jsonl"}}}
    made_by(site, "a", **recipe)
    assert made_by(site, "b", **recipe, **STRICT) == {"grade", "vote", "review", "changes"}
    assert [one.label for one in changes_of(site, "b").regraded] == ["given"]


def test_completions_of_a_release_with_fewer_fields_are_graded_again(site: Any) -> None:
    made_by(site, "a", goal="select", sampling=ONE_PASS)
    names, files = site.status("a").artifacts, site.worker.artifacts.files
    sample = names["completions/train/round-1/pass-1"]
    spec = files.read_json(f"artifacts/{sample}/spec.json")
    files.put_json(
        f"artifacts/{sample}/spec.json", {k: v for k, v in spec.items() if k not in ("quota", "max_samples")}
    )
    given = {"completions": {"artifact": sample}}
    data = {"train": {"artifact": names["problems/train"]}}
    assert made_by(site, "b", goal="grade", data=data, given=given, **STRICT) == {"grade", "vote", "review", "changes"}
    assert len(changes_of(site, "b").regraded) == 1


def test_damaged_earlier_grades_do_not_hold_up_a_run(site: Any) -> None:
    recipe = {"goal": "select", "sampling": ONE_PASS}
    made_by(site, "a", **recipe)
    grades = site.status("a").artifacts["grades/train/round-1/pass-1"]
    site.submit("b", **recipe, **STRICT)
    site.turn()
    site.worker.artifacts.files.delete(f"artifacts/{grades}/MANIFEST.json")
    assert site.run(run_id="b").state is RunState.SUCCEEDED
    assert [one.before for one in changes_of(site, "b").regraded] == [grades]


def test_all_passes_of_an_adaptive_run_are_graded_again(site: Any) -> None:
    made_by(site, "a", goal="select")
    names = site.status("a").artifacts
    first, second = (names[f"completions/train/round-1/pass-{i}"] for i in (1, 2))
    given = {"completions": {"artifact": first}, "further_completions": [second]}
    data = {"train": {"artifact": names["problems/train"]}}
    assert made_by(site, "b", goal="grade", data=data, given=given, **STRICT) == {"grade", "vote", "review", "changes"}
    assert [one.before for one in changes_of(site, "b").regraded] == [
        names[f"grades/train/round-1/pass-{i}"] for i in (1, 2)
    ]


def test_grades_that_were_never_finished_are_no_earlier_ones(site: Any) -> None:
    recipe = {"goal": "select", "sampling": ONE_PASS}
    made_by(site, "a", **recipe)
    grades = site.status("a").artifacts["grades/train/round-1/pass-1"]
    site.worker.artifacts.files.delete(f"artifacts/{grades}/MANIFEST.json")
    site.worker.artifacts._manifests.clear()
    site.restart()
    made_by(site, "b", **recipe, **STRICT)
    assert changes_of(site, "b") is None
