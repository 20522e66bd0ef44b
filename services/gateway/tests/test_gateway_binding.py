"""What the names in a recipe stand for, and which of them are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from overproof.gateway.settings import GatewaySettings
from overproof.shared.runs import RunState

pytestmark = pytest.mark.usefixtures("models")
Check = Callable[..., dict[str, Any]]
Change = Callable[[dict[str, Any], str, Any], dict[str, Any]]


def without(name: str) -> dict[str, Any]:
    return {"without": (name,)}


BAD_MODELS: list[tuple[str, dict[str, Any], str]] = [
    ("no config.json", without("config.json"), "config.json"),
    ("no tokenizer", without("tokenizer.json"), "has no tokenizer"),
    ("no chat template", without("chat_template.jinja"), "no chat template"),
    ("no weights", without("model.safetensors"), "safetensors"),
    ("remote code", {"config": {"auto_map": {"AutoModel": "evil.Model"}}}, "auto_map"),
    ("nested remote code", {"config": {"text_config": {"auto_map": {"AutoModel": "evil.Model"}}}}, "auto_map"),
    ("small context", {"config": {"max_position_embeddings": 128}}, "128 positions"),
]


@pytest.mark.parametrize(("name", "options", "words"), BAD_MODELS, ids=[case[0] for case in BAD_MODELS])
def test_an_unusable_model_folder_is_refused(
    client: TestClient, storage: Path, recipe: dict[str, Any], model_folder: Callable[..., Path], name: str,
    options: dict[str, Any], words: str,
    is_problem: Check, change: Change) -> None:  # fmt: skip
    model_folder("odd", **options)
    body = is_problem(client.post("/v1/runs", json={"recipe": change(recipe, "models.teacher", "odd")}), 422, "invalid")
    (error,) = body["errors"]
    assert error["field"] == "models.teacher"
    assert words in error["message"]
    assert error["remedy"]
    assert not storage.exists()


@pytest.mark.parametrize(
    "name", ["../secret", "/etc", "teacher/../../secret", "link", "nowhere", ".", "org/model", "run:../x"]
)
def test_a_model_that_is_not_below_the_root_is_refused(
    client: TestClient, settings: GatewaySettings, recipe: dict[str, Any], name: str, is_problem: Check, change: Change
) -> None:
    outside = settings.model_root.parent / "secret"
    outside.mkdir()
    (settings.model_root / "link").symlink_to(outside)
    body = is_problem(client.post("/v1/runs", json={"recipe": change(recipe, "models.teacher", name)}), 422, "invalid")
    assert [error["field"] for error in body["errors"]] == ["models.teacher"]
    assert str(settings.model_root) not in json.dumps(body)


def test_a_file_that_is_a_link_to_elsewhere_is_refused(
    client: TestClient, settings: GatewaySettings, recipe: dict[str, Any], is_problem: Check
) -> None:
    secret = settings.model_root.parent / "secret.safetensors"
    secret.write_text("secret")
    weights = settings.model_root / "teacher" / "model.safetensors"
    weights.unlink()
    weights.symlink_to(secret)
    is_problem(client.post("/v1/runs", json={"recipe": recipe}), 422, "invalid")


HOSTED = {"kind": "openai", "price_per_million_completion_tokens": 2.0, "budget_usd": 5.0}


def test_a_hosted_teacher_is_bound_by_its_servers_name(
    client: TestClient, recipe: dict[str, Any], change: Change
) -> None:
    body = change(change(recipe, "models.teacher", "org/huge-math"), "teacher_engine", HOSTED)
    bound = client.post("/v1/runs?dry_run=true", json={"recipe": body}).json()["bindings"]["models"]
    unbounded = change(body, "teacher_engine.budget_usd", None)
    told = client.post("/v1/runs?dry_run=true", json={"recipe": unbounded}).json()["warnings"]
    assert told == ["A served model has a price and the run no budget_usd: nothing bounds what it spends."]
    assert (bound["org/huge-math"]["kind"], bound["org/huge-math"]["location"]) == ("served", "org/huge-math")
    assert (bound["base"]["kind"], bool(bound["base"]["fingerprint"])) == ("folder", True)


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"models.teacher": "huge@main", "teacher_engine": HOSTED}, "models.teacher", "a server's, which has no revision"),
        ({"models.teacher": "run:2026-11-24-aaaaaa", "teacher_engine": HOSTED}, "models.teacher", "no model of a server"),
        ({"engine": HOSTED}, "", "cannot sample the students"),
        ({"models.teacher": "base", "teacher_engine": HOSTED}, "", "another name than models.student"),
        ({"teacher_engine": {"kind": "openai", "budget_usd": 5}}, "teacher_engine", "counts nothing without prices"),
        ({"teacher_engine": {"budget_usd": 5}}, "teacher_engine", "for kind openai"),
        ({"teacher_engine": HOSTED | {"budget_usd": 0}}, "teacher_engine.budget_usd", "0"),
    ],
)  # fmt: skip
def test_a_hosted_teacher_that_cannot_be_is_refused(
    client: TestClient, recipe: dict[str, Any], changes: dict[str, Any], field: str, words: str, is_problem: Check,
    change: Change,
) -> None:  # fmt: skip
    for path, value in changes.items():
        change(recipe, path, value)
    (error,) = is_problem(client.post("/v1/runs", json={"recipe": recipe}), 422, "invalid")["errors"]
    assert error["field"].removeprefix("recipe").removeprefix(".") == field
    assert words in error["message"]


def test_lengths_of_a_hosted_teacher_do_not_bound_the_student(
    client: TestClient, recipe: dict[str, Any], change: Change
) -> None:
    for path, value in {
        "models.teacher": "huge", "teacher_engine": HOSTED, "engine.max_model_len": 200, "sampling.max_tokens": 4096,
    }.items():  # fmt: skip
        change(recipe, path, value)
    assert client.post("/v1/runs?dry_run=true", json={"recipe": recipe}).status_code == 200
    change(recipe, "rounds", 2)
    assert client.post("/v1/runs?dry_run=true", json={"recipe": recipe}).status_code == 422


def test_a_folder_has_no_revision(
    client: TestClient, recipe: dict[str, Any], is_problem: Check, change: Change
) -> None:
    is_problem(
        client.post("/v1/runs", json={"recipe": change(recipe, "models.teacher", "teacher@main")}), 422, "invalid"
    )


def test_hub_names_are_taken_where_they_are_allowed(
    settings: GatewaySettings,
    make_client: Callable[[GatewaySettings], TestClient],
    recipe: dict[str, Any],
    change: Change,
) -> None:
    client = make_client(settings.model_copy(update={"allow_hub": True}))
    change(recipe, "models.teacher", "org/model")
    change(recipe, "data.train", {"hub": "org/data", "split": "train", "revision": "abc"})
    body = client.post("/v1/runs", json={"recipe": recipe}).json()
    assert body["bindings"]["models"]["org/model"]["kind"] == "hub"
    assert body["bindings"]["data"] == {"org/data": "abc"}
    assert body["warnings"] == ["models.teacher names no revision: name a commit, so that the run can be repeated."]


def test_the_student_of_an_earlier_run_is_a_model(
    client: TestClient, finished_run: Any, recipe: dict[str, Any], change: Change
) -> None:
    change(recipe, "models.teacher", f"run:{finished_run.run_id}")
    body = client.post("/v1/runs", json={"recipe": recipe}).json()
    bound = body["bindings"]["models"][f"run:{finished_run.run_id}"]
    assert (bound["kind"], bound["location"]) == ("artifact", finished_run.refs["student/round-1/shortest"])


def test_a_run_that_has_not_succeeded_has_no_student(
    client: TestClient, add_run: Callable[..., Any], recipe: dict[str, Any], is_problem: Check, change: Change
) -> None:
    add_run("2026-11-24-bbbbbb", state=RunState.RUNNING)
    for name in ("run:2026-11-24-bbbbbb", "run:2026-11-24-cccccc"):
        is_problem(client.post("/v1/runs", json={"recipe": change(recipe, "models.teacher", name)}), 422, "invalid")


BAD_DATA: list[tuple[dict[str, Any], str]] = [
    ({"file": "../outside.jsonl"}, "leaves its root"),
    ({"file": "/etc/passwd"}, "leaves its root"),
    ({"file": "nowhere.jsonl"}, "no file"),
    ({"file": "rows.txt"}, "neither JSONL"),
    ({"file": "rows.jsonl"}, "no column answer"),
    ({"file": "rows.jsonl", "columns": {"answer": "gold_answer"}}, "no column 'gold_answer'"),
    ({"upload": "ds_" + "0" * 32}, "no data set"),
    ({"artifact": "prepare/" + "0" * 32}, "no complete artifact"),
    ({"artifact": "nonsense/" + "0" * 32}, "no complete artifact"),
    ({"hub": "org/data"}, "may not use"),
]


@pytest.mark.parametrize(("source", "words"), BAD_DATA, ids=[json.dumps(case[0]) for case in BAD_DATA])
def test_an_unusable_data_set_is_refused(
    client: TestClient,
    settings: GatewaySettings,
    recipe: dict[str, Any],
    source: dict[str, Any],
    words: str,
    is_problem: Check,
    change: Change,
) -> None:
    for folder, name in (
        (settings.data_root, "rows.jsonl"),
        (settings.data_root, "rows.txt"),
        (settings.data_root.parent, "outside.jsonl"),
    ):
        (folder / name).write_text('{"question": "1+1?"}\n')
    body = is_problem(client.post("/v1/runs", json={"recipe": change(recipe, "data.train", source)}), 422, "invalid")
    assert all(error["field"].startswith("data.train") for error in body["errors"])
    assert words in json.dumps(body)


def test_a_file_is_bound_by_its_hash_and_an_artifact_by_its_reference(
    client: TestClient, settings: GatewaySettings, finished_run: Any, recipe: dict[str, Any], change: Change
) -> None:
    (settings.data_root / "rows.jsonl").write_text('{"question": "1+1?", "gold": "2"}\n')
    change(recipe, "data.train", {"file": "rows.jsonl"})
    change(recipe, "data.test", {"artifact": finished_run.refs["problems/train"]})
    first = client.post("/v1/runs", json={"recipe": recipe}).json()["bindings"]["data"]
    assert list(first) == ["rows.jsonl"]
    (settings.data_root / "rows.jsonl").write_text('{"question": "1+1?", "gold": "3 "}\n')
    assert client.post("/v1/runs", json={"recipe": recipe}).json()["bindings"]["data"] != first


def test_an_artifact_of_another_kind_is_no_problem_set(
    client: TestClient, finished_run: Any, recipe: dict[str, Any], is_problem: Check, change: Change
) -> None:
    change(recipe, "data.test", {"artifact": finished_run.refs["selected/round-1/shortest"]})
    body = is_problem(client.post("/v1/runs", json={"recipe": recipe}), 422, "invalid")
    assert "holds selected, not problems" in body["detail"]


def test_evaluations_of_earlier_runs_are_bound(client: TestClient, finished_run: Any, is_problem: Check) -> None:
    recipe = {"name": "both", "goal": "compare", "given": {"evaluations": [finished_run.run_id]}}
    (one,) = client.post("/v1/runs", json={"recipe": recipe}).json()["bindings"]["evaluations"]
    assert one["problems"] == finished_run.refs["problems/train"]
    assert one["evaluation"]["label"] == "teacher"
    recipe["given"] = {"evaluations": ["2026-11-24-ffffff"]}
    is_problem(client.post("/v1/runs", json={"recipe": recipe}), 422, "invalid")


def test_further_completions_must_be_completions(
    client: TestClient, finished_run: Any, recipe: dict[str, Any], is_problem: Check
) -> None:
    given = {
        "completions": {"artifact": finished_run.refs["completions/train/round-1/pass-1"]},
        "further_completions": [finished_run.refs["problems/train"]],
    }
    asked = {"name": "again", "goal": "grade", "data": recipe["data"], "given": given}
    body = is_problem(client.post("/v1/runs", json={"recipe": asked}), 422, "invalid")
    assert [error["field"] for error in body["errors"]] == ["given.further_completions.0"]
    assert "holds problems, not completions" in body["detail"]


def test_a_canned_engine_needs_no_teacher(client: TestClient) -> None:
    source = {"generator": "demo-math", "split": "train", "n": 5}
    recipe = {
        "name": "bench",
        "goal": "sample",
        "engine": {"kind": "canned"},
        "models": {"teacher": "none"},
        "data": {"train": source},
    }
    assert client.post("/v1/runs", json={"recipe": recipe}).status_code == 201


def test_several_mistakes_are_told_at_once(client: TestClient, recipe: dict[str, Any], is_problem: Check) -> None:
    recipe["models"] = {"teacher": "nowhere", "student": "nobody"}
    body = is_problem(client.post("/v1/runs", json={"recipe": recipe}), 422, "invalid")
    assert {error["field"] for error in body["errors"]} == {"models.teacher", "models.student"}


def test_max_model_len_must_leave_room(
    client: TestClient, recipe: dict[str, Any], is_problem: Check, change: Change
) -> None:
    body = is_problem(
        client.post("/v1/runs", json={"recipe": change(recipe, "engine.max_model_len", 128)}), 422, "invalid"
    )
    assert body["errors"][0]["field"] == "engine.max_model_len"


@pytest.mark.parametrize(("role", "refused"), [("student", True), ("teacher", False)])
def test_quantised_student_is_refused_and_a_quantised_teacher_is_not(
    client: TestClient, recipe: dict[str, Any], is_problem: Check, change: Change, model_folder: Callable[..., Path],
    role: str, refused: bool,
) -> None:  # fmt: skip
    model_folder("other", config={"quantization_config": {"quant_method": "fp8"}})
    answer = client.post("/v1/runs", json={"recipe": change(recipe, f"models.{role}", "other")})
    if not refused:
        assert answer.status_code == 201, answer.text
        return
    body = is_problem(answer, 422, "invalid")
    assert body["errors"][0]["field"] == "models.student"
    assert "The weights of other are quantised (fp8)" in body["errors"][0]["message"]


@pytest.mark.parametrize(
    ("kind", "packs", "refused"), [("stablelm", True, True), ("stablelm", False, False), ("llama", True, False)]
)
def test_student_whose_packed_rows_would_see_each_other_is_refused_before_anything_is_sampled(
    client: TestClient, recipe: dict[str, Any], is_problem: Check, change: Change, model_folder: Callable[..., Path],
    kind: str, packs: bool, refused: bool,
) -> None:  # fmt: skip
    model_folder("other", config={"model_type": kind})
    asked = change(recipe, "models.student", "other")
    asked["training"] = {"max_length": 512} | ({"micro_batch_tokens": 512} if packs else {})
    answer = client.post("/v1/runs", json={"recipe": asked})
    if not refused:
        assert answer.status_code == 201, answer.text
        return
    body = is_problem(answer, 422, "invalid")
    assert body["errors"][0]["field"] == "models.student"
    assert f"in a student of type {kind} they are not known to stay apart" in body["errors"][0]["message"]
