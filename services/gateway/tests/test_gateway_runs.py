"""Submitting, listing, looking at and steering runs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from overproof.gateway.context import Context
from overproof.gateway.settings import GatewaySettings
from overproof.shared.artifacts import Failure
from overproof.shared.leases import Leases
from overproof.shared.runs import Runs, RunState, StageState, Wanted

pytestmark = pytest.mark.usefixtures("models")
ProblemCheck = Callable[..., None]


def is_problem(response: Any, status: int, kind: str) -> dict[str, Any]:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = response.json()
    assert body["type"] == f"urn:overproof:error:{kind}"
    assert body["status"] == status
    assert body["request_id"] == response.headers["x-request-id"]
    assert "Traceback" not in response.text
    return body


# --- submitting -----------------------------------------------------------------------------------------------------


def test_a_run_is_written_with_what_its_names_stand_for(client: TestClient, runs: Runs, recipe: dict[str, Any]) -> None:
    response = client.post("/v1/runs", json={"recipe": recipe, "metadata": {"who": "me"}})
    assert response.status_code == 201, response.text
    body = response.json()
    assert response.headers["location"] == f"/v1/runs/{body['id']}"
    record = runs.record(body["id"])
    teacher = record.bindings.models["teacher"]
    assert (teacher.kind, teacher.location, teacher.license) == ("folder", "teacher", "apache-2.0")
    assert teacher.fingerprint != record.bindings.models["base"].fingerprint
    assert record.metadata == {"who": "me"}
    assert runs.wanted(body["id"]) is Wanted.RUNNING
    shown = client.get(response.headers["location"]).json()
    assert (shown["state"], shown["recipe"]["sampling"]["temperature"]) == ("queued", 0.7)


def test_yaml_is_the_recipe_alone(client: TestClient, recipe: dict[str, Any]) -> None:
    response = client.post(
        "/v1/runs", content=yaml.safe_dump(recipe), headers={"content-type": "application/yaml; charset=utf-8"}
    )
    assert response.status_code == 201, response.text
    assert response.json()["name"] == "tiny"


def test_a_dry_run_resolves_and_writes_nothing(client: TestClient, storage: Path, recipe: dict[str, Any]) -> None:
    response = client.post("/v1/runs?dry_run=true", json={"recipe": recipe}, headers={"idempotency-key": "k"})
    assert response.status_code == 200
    assert response.json()["bindings"]["models"]["base"]["kind"] == "folder"
    assert not storage.exists()


def change(recipe: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    place = recipe
    *parents, last = path.split(".")
    for name in parents:
        place = place.setdefault(name, {})
    place[last] = value
    return recipe


BAD_FIELDS: list[tuple[str, Any, str, str]] = [
    ("sampling.temprature", 1, "recipe.sampling.temprature", "Did you mean temperature?"),
    ("tranining", {}, "recipe.tranining", "Did you mean training?"),
    ("rounds", 0, "recipe.rounds", ""),
    ("goal", "destil", "recipe.goal", ""),
    ("models.student", None, "recipe", ""),
    ("data.test", {"generator": "demo-math", "upload": "ds_" + "0" * 32}, "recipe.data.test", ""),
    ("selection", [{"policy": "all"}, {"policy": "all"}], "recipe", ""),
    ("sampling", {"temperature": 0, "max_samples": 4}, "recipe.sampling", ""),
]


@pytest.mark.parametrize(("path", "value", "field", "remedy"), BAD_FIELDS, ids=[case[0] for case in BAD_FIELDS])
def test_a_bad_field_is_named(
    client: TestClient, storage: Path, recipe: dict[str, Any], path: str, value: Any, field: str, remedy: str
) -> None:
    body = is_problem(client.post("/v1/runs", json={"recipe": change(recipe, path, value)}), 422, "invalid")
    assert [error["field"] for error in body["errors"]] == [field]
    assert remedy in body["errors"][0].get("remedy", "")
    assert not storage.exists()


def test_values_are_not_echoed(client: TestClient, recipe: dict[str, Any]) -> None:
    response = client.post("/v1/runs", json={"recipe": change(recipe, "rounds", "s3cret-value")})
    assert "s3cret-value" not in response.text


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
) -> None:  # fmt: skip
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
    client: TestClient, settings: GatewaySettings, recipe: dict[str, Any], name: str
) -> None:
    outside = settings.model_root.parent / "secret"
    outside.mkdir()
    (settings.model_root / "link").symlink_to(outside)
    body = is_problem(client.post("/v1/runs", json={"recipe": change(recipe, "models.teacher", name)}), 422, "invalid")
    assert [error["field"] for error in body["errors"]] == ["models.teacher"]
    assert str(settings.model_root) not in json.dumps(body)


def test_a_file_that_is_a_link_to_elsewhere_is_refused(
    client: TestClient, settings: GatewaySettings, recipe: dict[str, Any]
) -> None:
    secret = settings.model_root.parent / "secret.safetensors"
    secret.write_text("secret")
    weights = settings.model_root / "teacher" / "model.safetensors"
    weights.unlink()
    weights.symlink_to(secret)
    is_problem(client.post("/v1/runs", json={"recipe": recipe}), 422, "invalid")


def test_a_folder_has_no_revision(client: TestClient, recipe: dict[str, Any]) -> None:
    is_problem(
        client.post("/v1/runs", json={"recipe": change(recipe, "models.teacher", "teacher@main")}), 422, "invalid"
    )


def test_hub_names_are_taken_where_they_are_allowed(
    settings: GatewaySettings, make_client: Callable[[GatewaySettings], TestClient], recipe: dict[str, Any]
) -> None:
    client = make_client(settings.model_copy(update={"allow_hub": True}))
    change(recipe, "models.teacher", "org/model")
    change(recipe, "data.train", {"hub": "org/data", "split": "train", "revision": "abc"})
    body = client.post("/v1/runs", json={"recipe": recipe}).json()
    assert body["bindings"]["models"]["org/model"]["kind"] == "hub"
    assert body["bindings"]["data"] == {"org/data": "abc"}
    assert body["warnings"] == ["models.teacher names no revision: name a commit, so that the run can be repeated."]


def test_the_student_of_an_earlier_run_is_a_model(
    client: TestClient, finished_run: Any, recipe: dict[str, Any]
) -> None:
    change(recipe, "models.teacher", f"run:{finished_run.run_id}")
    body = client.post("/v1/runs", json={"recipe": recipe}).json()
    bound = body["bindings"]["models"][f"run:{finished_run.run_id}"]
    assert (bound["kind"], bound["location"]) == ("artifact", finished_run.refs["student/round-1/shortest"])


def test_a_run_that_has_not_succeeded_has_no_student(
    client: TestClient, add_run: Callable[..., Any], recipe: dict[str, Any]
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
    client: TestClient, settings: GatewaySettings, recipe: dict[str, Any], source: dict[str, Any], words: str
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
    client: TestClient, settings: GatewaySettings, finished_run: Any, recipe: dict[str, Any]
) -> None:
    (settings.data_root / "rows.jsonl").write_text('{"question": "1+1?", "gold": "2"}\n')
    change(recipe, "data.train", {"file": "rows.jsonl"})
    change(recipe, "data.test", {"artifact": finished_run.refs["problems/train"]})
    first = client.post("/v1/runs", json={"recipe": recipe}).json()["bindings"]["data"]
    assert list(first) == ["rows.jsonl"]
    (settings.data_root / "rows.jsonl").write_text('{"question": "1+1?", "gold": "3 "}\n')
    assert client.post("/v1/runs", json={"recipe": recipe}).json()["bindings"]["data"] != first


def test_an_artifact_of_another_kind_is_no_problem_set(
    client: TestClient, finished_run: Any, recipe: dict[str, Any]
) -> None:
    change(recipe, "data.test", {"artifact": finished_run.refs["selected/round-1/shortest"]})
    body = is_problem(client.post("/v1/runs", json={"recipe": recipe}), 422, "invalid")
    assert "holds selected, not problems" in body["detail"]


def test_evaluations_of_earlier_runs_are_bound(client: TestClient, finished_run: Any) -> None:
    recipe = {"name": "both", "goal": "compare", "given": {"evaluations": [finished_run.run_id]}}
    (one,) = client.post("/v1/runs", json={"recipe": recipe}).json()["bindings"]["evaluations"]
    assert one["problems"] == finished_run.refs["problems/train"]
    assert one["evaluation"]["label"] == "teacher"
    recipe["given"] = {"evaluations": ["2026-11-24-ffffff"]}
    is_problem(client.post("/v1/runs", json={"recipe": recipe}), 422, "invalid")


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


def test_several_mistakes_are_told_at_once(client: TestClient, recipe: dict[str, Any]) -> None:
    recipe["models"] = {"teacher": "nowhere", "student": "nobody"}
    body = is_problem(client.post("/v1/runs", json={"recipe": recipe}), 422, "invalid")
    assert {error["field"] for error in body["errors"]} == {"models.teacher", "models.student"}


def test_max_model_len_must_leave_room(client: TestClient, recipe: dict[str, Any]) -> None:
    body = is_problem(
        client.post("/v1/runs", json={"recipe": change(recipe, "engine.max_model_len", 128)}), 422, "invalid"
    )
    assert body["errors"][0]["field"] == "engine.max_model_len"


BODIES: list[tuple[str, bytes, str, int, str]] = [
    ("not JSON", b'{"recipe": ', "application/json", 422, "recipe"),
    ("not UTF-8", b'{"recipe": "\xff"}', "application/json", 422, "recipe"),
    ("NaN", b'{"recipe": NaN}', "application/json", 422, "recipe"),
    ("deep", b"[" * 100_000, "application/json", 422, "recipe"),
    ("a list", b"[]", "application/json", 422, "invalid"),
    ("no recipe", b"{}", "application/json", 422, "invalid"),
    ("other type", b"name: x", "text/plain", 415, "unsupported"),
    ("no type", b"{}", "", 415, "unsupported"),
    ("broken YAML", b"a: [", "application/yaml", 422, "recipe"),
    ("YAML tag", b"!!python/object/apply:os.system ['true']", "application/yaml", 422, "recipe"),
    ("YAML alias", b"a: &a [x]\nb: *a", "application/yaml", 422, "recipe"),
    ("doubled YAML key", b"name: a\nname: b", "application/yaml", 422, "recipe"),
    ("deep YAML", b"[" * 5_000, "application/yaml", 422, "recipe"),
    ("too large", b" " * 300_000, "application/json", 413, "too-large"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "content", "kind", "status", "error"), BODIES, ids=[case[0] for case in BODIES])
def test_a_body_that_is_none_is_refused(
    client: TestClient, storage: Path, name: str, content: bytes, kind: str, status: int, error: str
) -> None:
    response = client.post("/v1/runs", content=content, headers={"content-type": kind} if kind else {})
    is_problem(response, status, error)
    assert not storage.exists()


def test_a_body_without_a_length_is_counted(client: TestClient) -> None:
    def chunks() -> Any:
        for _ in range(100):
            yield b" " * 65_536

    response = client.post("/v1/runs", content=chunks(), headers={"content-type": "application/json"})
    is_problem(response, 413, "too-large")


# --- the same request again -------------------------------------------------------------------------------------------


def test_the_same_key_gives_the_same_run_and_the_same_answer(
    client: TestClient, runs: Runs, recipe: dict[str, Any]
) -> None:
    headers = {"idempotency-key": "again"}
    first = client.post("/v1/runs", json={"recipe": recipe}, headers=headers)
    runs.want(first.json()["id"], Wanted.CANCELLED)
    second = client.post("/v1/runs", json={"recipe": recipe}, headers=headers)
    assert (second.status_code, second.json()) == (201, first.json())
    assert second.headers["location"] == first.headers["location"]
    assert runs.wanted(first.json()["id"]) is Wanted.CANCELLED
    assert len(runs.ids()) == 1


def test_the_same_key_with_another_body_is_a_conflict(client: TestClient, runs: Runs, recipe: dict[str, Any]) -> None:
    headers = {"idempotency-key": "again"}
    client.post("/v1/runs", json={"recipe": recipe}, headers=headers)
    is_problem(client.post("/v1/runs", json={"recipe": change(recipe, "rounds", 2)}, headers=headers), 409, "conflict")
    assert len(runs.ids()) == 1


def test_many_equal_requests_at_once_make_one_run(client: TestClient, runs: Runs, recipe: dict[str, Any]) -> None:
    answers: list[Any] = []

    def ask() -> None:
        answers.append(client.post("/v1/runs", json={"recipe": recipe}, headers={"idempotency-key": "race"}).json())

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 8
    assert all(answer == answers[0] for answer in answers)
    assert runs.ids() == [answers[0]["id"]]


def test_a_run_whose_submission_broke_off_is_written_by_the_next_request(
    client: TestClient, runs: Runs, recipe: dict[str, Any]
) -> None:
    headers = {"idempotency-key": "broken"}
    run_id = client.post("/v1/runs", json={"recipe": recipe}, headers=headers).json()["id"]
    runs.files.delete(f"runs/{run_id}/recipe.json")
    assert client.get(f"/v1/runs/{run_id}").status_code == 404
    assert client.post("/v1/runs", json={"recipe": recipe}, headers=headers).json()["id"] == run_id
    assert client.get(f"/v1/runs/{run_id}").status_code == 200


# --- looking ----------------------------------------------------------------------------------------------------------


def test_runs_come_newest_first_in_pages(client: TestClient, add_run: Callable[..., Any]) -> None:
    ids = [f"2026-11-2{day}-{name}" for day in (1, 2) for name in ("ffffff", "000000", "777777")]
    for moment, run_id in enumerate(ids):
        add_run(run_id, created_at=1000.0 + moment)
    seen: list[str] = []
    after: dict[str, Any] = {}
    while True:
        page = client.get("/v1/runs", params={"limit": 4} | after).json()
        seen += [run["id"] for run in page["data"]]
        if not page["has_more"]:
            break
        after = {"after": seen[-1]}
    assert seen == ids[::-1]


def test_a_submission_under_way_is_not_listed(client: TestClient, runs: Runs, add_run: Callable[..., Any]) -> None:
    add_run("2026-11-24-aaaaaa")
    runs.files.create_json("runs/2026-11-24-bbbbbb/desired.json", {"wanted": "running"})
    assert [run["id"] for run in client.get("/v1/runs").json()["data"]] == ["2026-11-24-aaaaaa"]


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x"])
def test_a_page_size_out_of_range_is_refused(client: TestClient, query: str) -> None:
    body = is_problem(client.get(f"/v1/runs?{query}"), 422, "invalid")
    assert body["errors"][0]["field"] == "limit"


@pytest.mark.parametrize(
    "path", ["/v1/runs/2026-11-24-000000", "/v1/runs/..%2f..%2fetc", "/v1/runs?after=2026-11-24-000000"]
)
def test_an_unknown_run_is_not_found(client: TestClient, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"


def test_live_progress_is_shown(
    settings: GatewaySettings, redis_url: str, make_client: Callable[[GatewaySettings], TestClient],
    add_run: Callable[..., Any], stage: Callable[..., Any],
) -> None:  # fmt: skip
    client = make_client(settings.model_copy(update={"redis_url": redis_url}))
    ref = "sample/" + "1" * 32
    add_run("2026-11-24-aaaaaa", state=RunState.RUNNING, stages=(stage(ref),))
    Leases(redis_url).report(ref, 3, {"tokens_per_second": 12.5})
    body = client.get("/v1/runs/2026-11-24-aaaaaa").json()
    assert body["live"] == [{"label": "sample · teacher", "ref": ref, "shards": {"3": {"tokens_per_second": 12.5}}}]
    assert body["note"] is None


def test_without_redis_a_run_is_shown_without_live_progress(
    client: TestClient, add_run: Callable[..., Any], stage: Callable[..., Any]
) -> None:
    add_run("2026-11-24-aaaaaa", state=RunState.RUNNING, stages=(stage("sample/" + "1" * 32),))
    body = client.get("/v1/runs/2026-11-24-aaaaaa").json()
    assert body["state"] == "running"
    assert body["live"] is None
    assert "Redis does not answer" in body["note"]


# --- steering ---------------------------------------------------------------------------------------------------------

S, W = RunState, Wanted
STEPS: list[tuple[str, RunState | None, Wanted, Wanted | None]] = [
    ("cancel", None, W.RUNNING, W.CANCELLED), ("cancel", S.RUNNING, W.RUNNING, W.CANCELLED),
    ("cancel", S.PAUSED, W.PAUSED, W.CANCELLED), ("cancel", S.RUNNING, W.CANCELLED, W.CANCELLED),
    ("cancel", S.SUCCEEDED, W.RUNNING, None), ("cancel", S.FAILED, W.RUNNING, None), ("cancel", S.CANCELLED, W.CANCELLED, None),
    ("pause", S.RUNNING, W.RUNNING, W.PAUSED), ("pause", S.PAUSED, W.PAUSED, W.PAUSED), ("pause", S.FAILED, W.RUNNING, None),
    ("pause", S.RUNNING, W.CANCELLED, None), ("pause", S.SUCCEEDED, W.RUNNING, None),
    ("resume", S.PAUSED, W.PAUSED, W.RUNNING), ("resume", S.CANCELLED, W.CANCELLED, W.RUNNING),
    ("resume", S.FAILED, W.RUNNING, W.RUNNING), ("resume", S.RUNNING, W.PAUSED, W.RUNNING),
    ("resume", S.RUNNING, W.RUNNING, None), ("resume", None, W.RUNNING, None), ("resume", S.SUCCEEDED, W.RUNNING, None),
]  # fmt: skip


@pytest.mark.parametrize(("action", "state", "wanted", "result"), STEPS)
def test_transitions(
    client: TestClient, runs: Runs, add_run: Callable[..., Any], action: str, state: RunState | None, wanted: Wanted,
    result: Wanted | None,
) -> None:  # fmt: skip
    run_id = "2026-11-24-aaaaaa"
    add_run(run_id, state=state)
    runs.want(run_id, wanted)
    response = client.post(f"/v1/runs/{run_id}/{action}")
    if result is None:
        is_problem(response, 409, "conflict")
        assert runs.wanted(run_id) is wanted
    else:
        assert response.status_code == 202
        assert response.json()["wanted"] == result
        assert runs.wanted(run_id) is result


def test_steering_an_unknown_run_is_not_found(client: TestClient) -> None:
    is_problem(client.post("/v1/runs/2026-11-24-000000/cancel"), 404, "not-found")


def failed_run(context: Context, add_run: Callable[..., Any], stage: Callable[..., Any]) -> str:
    ref = "sample/" + "1" * 32
    failure = Failure(shard=0, message="m", kind="Poison", attempts=5, owner="w", failed_at=0)
    context.artifacts().fail(ref, failure)
    add_run("2026-11-24-aaaaaa", state=RunState.FAILED, stages=(stage(ref, StageState.FAILED),))
    return ref


def test_resuming_a_failed_run_forgives_its_failures(
    context: Context, settings: GatewaySettings, redis_url: str, make_client: Callable[[GatewaySettings], TestClient],
    add_run: Callable[..., Any], stage: Callable[..., Any],
) -> None:  # fmt: skip
    ref = failed_run(context, add_run, stage)
    leases = Leases(redis_url)
    leases.claim("inference", ref, 0, "worker")
    client = make_client(settings.model_copy(update={"redis_url": redis_url}))
    assert client.post("/v1/runs/2026-11-24-aaaaaa/resume").status_code == 202
    assert not context.artifacts().listing(ref).failed
    assert leases.attempts(ref, 0) == 0


def test_a_failed_run_is_not_half_resumed_while_redis_is_away(
    client: TestClient, context: Context, add_run: Callable[..., Any], stage: Callable[..., Any]
) -> None:
    ref = failed_run(context, add_run, stage)
    response = client.post("/v1/runs/2026-11-24-aaaaaa/resume")
    is_problem(response, 503, "broker-unavailable")
    assert response.headers["retry-after"]
    assert context.artifacts().listing(ref).failed == {0}
