"""Listing, looking at and steering runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from overproof.gateway.context import Context
from overproof.gateway.settings import GatewaySettings
from overproof.shared.artifacts import Failure
from overproof.shared.leases import Leases
from overproof.shared.runs import Runs, RunState, StageState, Wanted

Check = Callable[..., dict[str, Any]]


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
def test_a_page_size_out_of_range_is_refused(client: TestClient, query: str, is_problem: Check) -> None:
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
    is_problem: Check) -> None:  # fmt: skip
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


def test_steering_an_unknown_run_is_not_found(client: TestClient, is_problem: Check) -> None:
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
    client: TestClient, context: Context, add_run: Callable[..., Any], stage: Callable[..., Any], is_problem: Check
) -> None:
    ref = failed_run(context, add_run, stage)
    response = client.post("/v1/runs/2026-11-24-aaaaaa/resume")
    is_problem(response, 503, "broker-unavailable")
    assert response.headers["retry-after"]
    assert context.artifacts().listing(ref).failed == {0}
