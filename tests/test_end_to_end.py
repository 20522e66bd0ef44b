"""The demo, shortened: real processes, real models, HTTP in and a report out; then the same under kill -9."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from installation import ROOT, Installation, installed

from overproof.shared.tables import CHANGES, COMPLETIONS, GOLD_REVIEW, GRADES, PROBLEMS, SELECTED, VOTES

SHORT: dict[str, dict[str, Any]] = {
    "data": {
        "train": {"generator": "demo-math", "split": "train", "n": 240, "seed": 11},
        "test": {"generator": "demo-math", "split": "test", "n": 60, "seed": 12},
    },
    "training": {"max_steps": 30, "save_every_steps": 5, "evaluations_per_epoch": 1},
}


def recipe(**change: Any) -> dict[str, Any]:
    """The demo's recipe with fewer problems and steps."""
    base = yaml.safe_load((ROOT / "recipes" / "demo.yaml").read_text())
    base["data"] = SHORT["data"]
    base["training"] |= SHORT["training"]
    return {**base, "problems_per_shard": 30, "selection": [{"policy": "shortest"}], **change}


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Installation, str]]:
    """An undisturbed run that has ended."""
    with installed(tmp_path_factory.mktemp("calm")) as installation:
        run_id = installation.submit(recipe())
        run = installation.wait(run_id)
        assert run["state"] == "succeeded", run["error"]
        yield installation, run_id


def names(installation: Installation, run_id: str) -> dict[str, str]:
    return dict(installation.gateway.run(run_id)["artifacts"])


def rows(installation: Installation, run_id: str, prefix: str, schema: Any) -> list[dict[str, Any]]:
    """Rows of all artifacts whose name begins so, in order of the names."""
    refs = [ref for name, ref in sorted(names(installation, run_id).items()) if name.startswith(prefix)]
    assert refs
    return [row for ref in refs for batch in installation.artifacts.read(ref, schema) for row in batch.to_pylist()]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_loop_ends_in_a_report_with_every_model(calm: tuple[Installation, str]) -> None:
    installation, run_id = calm
    report = installation.gateway.report(run_id)
    text = json.dumps(report)
    assert all(label in text for label in ("teacher", "base", "round 1"))
    page = installation.state.root / "report.html"
    installation.gateway.download(f"/v1/runs/{run_id}/report", page)
    assert "<html" in page.read_text()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_no_test_problem_reached_training(calm: tuple[Installation, str]) -> None:
    installation, run_id = calm
    tested = {row["group_id"] for row in rows(installation, run_id, "problems/test", PROBLEMS)}
    trained = {row["group_id"] for row in rows(installation, run_id, "selected/", SELECTED)}
    assert tested
    assert trained
    assert not tested & trained


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_same_request_is_the_same_run_and_costs_nothing(calm: tuple[Installation, str]) -> None:
    installation, run_id = calm
    assert installation.submit(recipe()) == run_id


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_student_is_a_model_of_the_next_run(calm: tuple[Installation, str]) -> None:
    installation, run_id = calm
    again = installation.submit({
        "name": "again", "goal": "evaluate", "data": {"test": SHORT["data"]["test"]}, "models": {"evaluate": [f"run:{run_id}"]},
        "engine": recipe()["engine"], "sampling": recipe()["sampling"], "evaluation": recipe()["evaluation"], "problems_per_shard": 30,
    }, key="again")  # fmt: skip
    run = installation.wait(again)
    assert run["state"] == "succeeded", run["error"]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_run_is_graded_again_without_a_model_and_every_verdict_is_accounted_for(calm: tuple[Installation, str]) -> None:
    installation, run_id = calm
    given = {"evaluations": [run_id], "regrade": True}
    changed = {"evaluation": recipe()["evaluation"], "grading": {"strict": True}}
    again = installation.submit({"name": "regrade", "goal": "compare", "given": given, **changed}, key="regrade")
    run = installation.wait(again)
    assert run["state"] == "succeeded", run["error"]
    assert {stage["stage"] for stage in run["stages"]} == {"grade", "compare", "changes", "report"}
    report = installation.gateway.report(again)["changes"]
    moved = [row for before, now in _verdicts(installation, run_id, again) for row in zip(before, now, strict=True)]
    assert (
        sum(n for rows in report["verdicts"].values() for row in rows.values() for n in row.values())
        == len(moved)
        > 100
    )
    assert report["changed"] == sum(before != now for before, now in moved)
    assert report["changed"] == len(rows(installation, again, "changes", CHANGES))


def _verdicts(installation: Installation, run_id: str, again: str) -> Iterator[tuple[list[str], list[str]]]:
    """The verdicts on each model's test completions, in both runs."""
    for name in names(installation, again):
        if name.startswith("grades/test/"):
            both = (rows(installation, one, name, GRADES) for one in (run_id, again))
            before, now = ([row["verdict"] for row in found] for found in both)
            yield before, now


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_completions_voted_on_every_training_problem(calm: tuple[Installation, str]) -> None:
    installation, run_id = calm
    votes = rows(installation, run_id, "votes/", VOTES)
    assert [row["problem_id"] for row in votes] == [
        row["problem_id"] for row in rows(installation, run_id, "problems/train", PROBLEMS)
    ]
    drawn = rows(installation, run_id, "completions/train/", COMPLETIONS)
    assert sum(row["completions"] for row in votes) == len(drawn)
    listed = rows(installation, run_id, "gold_review", GOLD_REVIEW)
    assert all(row["votes"] >= 3 and row["votes"] >= row["correct"] + 2 for row in listed)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_kill_of_every_worker_and_of_redis_changes_no_row(calm: tuple[Installation, str], tmp_path: Path) -> None:
    undisturbed, run_id = calm
    with installed(tmp_path) as installation:
        again = installation.submit(recipe())
        installation.wait_for(again, "sample", 2)
        installation.kill("inference")
        installation.kill("grading")
        installation.wait_for(again, "sample", 5)
        installation.wipe_redis()
        installation.kill("pipeline")
        installation.wait_for(again, "select", 1)
        installation.kill("reporting")
        installation.kill("gateway")
        training = installation.artifacts.files.root + "/artifacts/train"
        installation._until(lambda: any(Path(training).rglob("COMPLETE.json")), 200, "no checkpoint")
        installation.kill("training")
        run = installation.wait(again)
        assert run["state"] == "succeeded", run["error"]
        for prefix, schema in (("completions/", COMPLETIONS), ("selected/", SELECTED)):
            assert rows(installation, again, prefix, schema) == rows(undisturbed, run_id, prefix, schema)
