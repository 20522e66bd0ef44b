"""Keys, health, metrics, errors, the description, and the command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from overproof.gateway import openapi
from overproof.gateway.app import OpenDoor, create_app
from overproof.gateway.context import Context
from overproof.gateway.keys import KeyFileError, KeyRing, new_key, parse_keys
from overproof.gateway.settings import GatewaySettings
from overproof.shared.leases import Leases
from overproof.shared.runs import RunState

DOCS = Path(__file__).parents[3] / "docs"
Make = Callable[[GatewaySettings], TestClient]


# --- keys ---------------------------------------------------------------------------------------------------------------


def test_a_key_lets_in_and_nothing_else_does(settings: GatewaySettings, make_client: Make) -> None:
    key, line = new_key()
    client = make_client(settings.model_copy(update={"api_keys": line, "host": "192.0.2.1"}))
    other, _ = new_key()
    assert client.get("/v1/runs", headers={"authorization": f"Bearer {key}"}).status_code == 200
    for header in (
        "",
        f"Bearer {other}",
        f"Bearer {key}x",
        f"Basic {key}",
        f"Bearer {key[:12]}{other[12:]}",
        "Bearer ok_",
    ):
        response = client.get("/v1/runs", headers={"authorization": header} if header else {})
        assert response.status_code == 401, header
        assert response.headers["www-authenticate"] == "Bearer"
        assert other not in response.text


def test_every_route_but_the_probes_asks_for_a_key(settings: GatewaySettings, make_client: Make) -> None:
    client = make_client(settings.model_copy(update={"api_keys": new_key()[1]}))
    described = client.get("/openapi.json").json()["paths"]
    for path, methods in described.items():
        for method, operation in methods.items():
            response = client.request(method, re.sub(r"\{\w+\}", "x", path))
            if operation["tags"] == ["health"]:
                assert response.status_code in (200, 503)
                assert "security" not in operation
            else:
                assert response.status_code == 401, path
                assert operation["security"]


def test_a_file_of_keys_is_read_again_when_it_changes(
    settings: GatewaySettings, make_client: Make, tmp_path: Path
) -> None:
    key, line = new_key()
    path = tmp_path / "keys"
    path.write_text("# nobody yet\n")
    client = make_client(settings.model_copy(update={"api_keys_file": path, "host": "192.0.2.1"}))
    headers = {"authorization": f"Bearer {key}"}
    assert client.get("/v1/runs", headers=headers).status_code == 401
    path.write_text(f"{line}  # somebody\n")
    assert client.get("/v1/runs", headers=headers).status_code == 200
    path.write_text("\n")
    os.utime(path, (1, 1))
    assert client.get("/v1/runs", headers=headers).status_code == 401


def test_a_list_of_keys_that_is_none_is_refused() -> None:
    good = new_key()[1]
    assert next(iter(parse_keys(f"{good},{new_key()[1]}\n# a comment\n"))) == good[:8]
    with pytest.raises(KeyFileError, match="entry 2"):
        parse_keys(f"{good} ok_secret")
    with pytest.raises(KeyFileError):
        KeyRing("", Path("/nowhere/keys"))


def test_without_keys_it_listens_to_this_machine_only(settings: GatewaySettings) -> None:
    for host in ("192.0.2.1", "::", "10.0.0.1", "gateway"):
        with pytest.raises(OpenDoor, match="new-key"):
            create_app(settings.model_copy(update={"host": host}))
    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        create_app(settings.model_copy(update={"host": host}))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 403), ({"host": "127.0.0.1.evil.example"}, 403), ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403), ({"host": "localhost:8000"}, 200), ({"host": "[::1]:8000"}, 200),
        ({"origin": "http://localhost:3000"}, 200),
    ],
)  # fmt: skip
def test_without_keys_foreign_pages_are_refused(client: TestClient, headers: dict[str, str], status: int) -> None:
    assert client.get("/v1/runs", headers=headers).status_code == status


# --- health -------------------------------------------------------------------------------------------------------------


def test_ready_when_redis_and_storage_answer(
    settings: GatewaySettings, make_client: Make, redis_url: str, storage: Path
) -> None:
    client = make_client(settings.model_copy(update={"redis_url": redis_url}))
    body = client.get("/readyz").json()
    assert body["ready"] is True
    assert body["checks"]["pipeline"]["ok"] is False
    Leases(redis_url).lead("pipeline", "somebody", 10)
    assert client.get("/readyz").json()["checks"]["pipeline"]["ok"] is True
    assert list((storage / "probes").iterdir()) == []


def test_not_ready_without_redis_and_says_so_quickly(client: TestClient) -> None:
    started = time.monotonic()
    response = client.get("/readyz")
    assert time.monotonic() - started < 2
    assert response.status_code == 503
    assert response.json()["checks"]["redis"]["ok"] is False
    assert response.json()["checks"]["storage"]["ok"] is True
    assert client.get("/healthz").status_code == 200


def test_not_ready_while_it_ends(client: TestClient, context: Context) -> None:
    context.closing.set()
    assert client.get("/readyz").json()["checks"]["process"]["ok"] is False


def test_not_ready_when_storage_is_a_file(settings: GatewaySettings, make_client: Make, tmp_path: Path) -> None:
    (tmp_path / "flat").write_text("")
    client = make_client(settings.model_copy(update={"storage": str(tmp_path / "flat")}))
    assert client.get("/readyz").json()["checks"]["storage"]["ok"] is False
    response = client.post("/v1/datasets?filename=a.jsonl", content=b"{}")
    assert (response.status_code, response.json()["type"]) == (503, "urn:overproof:error:storage-unavailable")


# --- metrics ------------------------------------------------------------------------------------------------------------


def test_metrics_show_templates_and_the_latest_comparison(
    client: TestClient, finished_run: Any, add_run: Callable[..., Any]
) -> None:
    add_run("2026-11-23-bbbbbb", state=RunState.RUNNING)
    client.get(f"/v1/runs/{finished_run.run_id}")
    client.get("/nowhere/at/all")
    text = client.get("/metrics").text
    assert 'http_request_duration_seconds_count{method="GET",route="/v1/runs/{run_id}",status="200"}' in text
    assert 'route="unmatched",status="404"' in text
    assert 'overproof_eval_accuracy_ratio{model="base",role="base"} 0.4' in text
    assert 'overproof_runs{state="succeeded"} 1.0' in text
    assert 'overproof_runs{state="running"} 1.0' in text
    assert finished_run.run_id not in text
    assert float(text.partition("\noverproof_storage_free_bytes ")[2].split()[0]) > 0
    assert float(text.partition("\noverproof_runs_oldest_running_seconds ")[2].split()[0]) > 0


def test_metrics_show_queues_and_leases(settings: GatewaySettings, make_client: Make, redis_url: str) -> None:
    client = make_client(settings.model_copy(update={"redis_url": redis_url}))
    leases = Leases(redis_url)
    leases._redis.lpush("overproof:grading", "message")
    leases.mark_sent("grading", "grade/x", 0)
    leases.claim("inference", "sample/x", 1, "somebody")
    time.sleep(0.01)
    text = client.get("/metrics").text
    assert 'overproof_queue_length{queue="grading"} 1.0' in text
    assert 'overproof_leases{stage="sample"} 1.0' in text
    assert 0 < float(text.partition('message_age_seconds{queue="grading"} ')[2].split()[0]) < 60
    assert "overproof_redis_up 1.0" in text


def test_metrics_come_without_runs_and_without_redis(client: TestClient) -> None:
    text = client.get("/metrics").text
    assert "overproof_redis_up 0.0" in text
    assert 'overproof_runs{state="queued"} 0.0' in text
    assert "http_requests_in_flight 1.0" in text


# --- errors -------------------------------------------------------------------------------------------------------------


def test_what_breaks_is_a_problem_without_details(
    client: TestClient, context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> list[str]:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(context.runs, "ids", broken)
    response = client.get("/v1/runs", headers={"x-request-id": "trace-1"})
    assert (response.status_code, response.headers["content-type"]) == (500, "application/problem+json")
    assert "secret detail" not in response.text
    assert response.json()["request_id"] == response.headers["x-request-id"] == "trace-1"


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/nowhere", 404), ("DELETE", "/v1/runs", 405), ("GET", "/docs", 404)]
)
def test_what_the_framework_refuses_is_a_problem_too(client: TestClient, method: str, path: str, status: int) -> None:
    response = client.request(method, path)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert response.json()["status"] == status


def test_a_request_id_that_could_break_a_log_is_replaced(client: TestClient) -> None:
    response = client.get("/healthz", headers={"x-request-id": "a b"})
    assert re.fullmatch(r"[0-9a-f]{16}", response.headers["x-request-id"])


# --- the description ----------------------------------------------------------------------------------------------------


def described(client: TestClient) -> dict[str, Any]:
    app = client.app
    assert isinstance(app, FastAPI)
    return openapi.describe(app)


def test_the_committed_description_is_current(client: TestClient) -> None:
    app = client.app
    assert isinstance(app, FastAPI)
    committed = (DOCS / "openapi.json").read_text(encoding="utf-8")
    assert committed == openapi.text(app), "run: python -m overproof.gateway.openapi > docs/openapi.json"


def test_every_operation_has_a_name_a_tag_and_its_errors(client: TestClient) -> None:
    document = described(client)
    operations = [one for methods in document["paths"].values() for one in methods.values()]
    assert len({one["operationId"] for one in operations}) == len(operations)
    for one in operations:
        assert one["tags"]
        assert one["summary"]
        assert {"4XX", "5XX"} <= one["responses"].keys()
    links = document["paths"]["/v1/runs"]["post"]["responses"]["201"]["links"]
    assert {link["operationId"] for link in links.values()} <= {one["operationId"] for one in operations}


def test_every_reference_of_the_description_leads_somewhere(client: TestClient) -> None:
    document = described(client)
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(document)))
    assert names <= document["components"]["schemas"].keys()


# --- the command --------------------------------------------------------------------------------------------------------


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("OVERPROOF_")}
    return subprocess.run(
        [sys.executable, "-m", "overproof.gateway", *arguments],
        capture_output=True, text=True, env=clean | environment, timeout=60, check=False,
    )  # fmt: skip


def test_new_key_prints_a_key_and_its_line() -> None:
    output = command("new-key").stdout
    key, line = re.search(r"key +(\S+)", output)[1], re.search(r"line +(\S+)", output)[1]  # type: ignore[index]
    assert KeyRing(line, None).principal(key) == line[:8]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"OVERPROOF_HOST": "192.0.2.1"}, "no API keys"),
        ({"OVERPROOF_PORT": "99999"}, "OVERPROOF_PORT"),
        ({"OVERPROOF_API_KEYS": "x"}, "id:sha256"),
    ],
)
def test_a_mistake_in_the_settings_is_one_sentence(environment: dict[str, str], words: str) -> None:
    done = command(**environment)
    assert done.returncode != 0
    assert words in done.stderr
    assert "Traceback" not in done.stderr
