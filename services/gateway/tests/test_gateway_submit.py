"""Submitting runs: what is written, and what is refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from overproof.shared.runs import Runs, Wanted

pytestmark = pytest.mark.usefixtures("models")
Check = Callable[..., dict[str, Any]]
Change = Callable[[dict[str, Any], str, Any], dict[str, Any]]


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
    client: TestClient,
    storage: Path,
    recipe: dict[str, Any],
    path: str,
    value: Any,
    field: str,
    remedy: str,
    is_problem: Check,
    change: Change,
) -> None:
    body = is_problem(client.post("/v1/runs", json={"recipe": change(recipe, path, value)}), 422, "invalid")
    assert [error["field"] for error in body["errors"]] == [field]
    assert remedy in body["errors"][0].get("remedy", "")
    assert not storage.exists()


def test_values_are_not_echoed(client: TestClient, recipe: dict[str, Any], change: Change) -> None:
    response = client.post("/v1/runs", json={"recipe": change(recipe, "rounds", "s3cret-value")})
    assert "s3cret-value" not in response.text


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
    client: TestClient, storage: Path, name: str, content: bytes, kind: str, status: int, error: str, is_problem: Check
) -> None:
    response = client.post("/v1/runs", content=content, headers={"content-type": kind} if kind else {})
    is_problem(response, status, error)
    assert not storage.exists()


def test_a_body_without_a_length_is_counted(client: TestClient, is_problem: Check) -> None:
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


def test_the_same_key_with_another_body_is_a_conflict(
    client: TestClient, runs: Runs, recipe: dict[str, Any], is_problem: Check, change: Change
) -> None:
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
