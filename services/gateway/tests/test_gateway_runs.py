"""Listing, looking at and steering runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from overproof.gateway.context import Context
from overproof.gateway.settings import GatewaySettings
from overproof.shared.leases import Leases
from overproof.shared.recipe import Recipe
from overproof.shared.records import Failure
from overproof.shared.runs import RunError, RunRecord, Runs, RunState, RunStatus, StageState, Wanted

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


HOSTED = {"kind": "openai", "price_per_million_completion_tokens": 10.0, "budget_usd": 5.0}


@pytest.fixture
def spent_run(runs: Runs) -> str:
    """A run that paused at its budget."""
    run_id = "2026-11-24-aaaaaa"
    recipe = Recipe.model_validate({
        "name": "r", "goal": "sample", "data": {"train": {"generator": "demo-math", "split": "train", "n": 3}},
        "models": {"teacher": "hosted"}, "engine": HOSTED,
    })  # fmt: skip
    runs.create(RunRecord(run_id=run_id, created_at=0, recipe=recipe))
    reason = RunError(stage="sample", kind="BudgetReached", message="m", remedy="r")
    runs.put_status(
        RunStatus(
            run_id=run_id, name="r", state=RunState.PAUSED, created_at=0, updated_at=0, error=reason,
            spent_usd=5.25, budget_usd=5.0,
        )
    )  # fmt: skip
    return run_id


def test_run_says_what_it_spent_and_why_it_paused(client: TestClient, spent_run: str) -> None:
    for body in (client.get(f"/v1/runs/{spent_run}").json(), client.get("/v1/runs").json()["data"][0]):
        assert (body["state"], body["wanted"], body["error"]["kind"]) == ("paused", "running", "BudgetReached")
        assert (body["spent_usd"], body["budget_usd"]) == (5.25, 5.0)


def test_spent_budget_must_be_raised(client: TestClient, runs: Runs, spent_run: str, is_problem: Check) -> None:
    for query in ("", "?budget_usd=5.25"):
        problem = is_problem(client.post(f"/v1/runs/{spent_run}/resume{query}"), 409, "conflict")
        assert "has spent $5.25" in problem["detail"]
        assert "--budget 10.50" in problem["remedy"]
    assert runs.desired(spent_run).budget_usd is None
    assert client.post(f"/v1/runs/{spent_run}/resume?budget_usd=12.5").status_code == 202
    assert (runs.desired(spent_run).budget_usd, runs.wanted(spent_run)) == (12.5, Wanted.RUNNING)
    client.post(f"/v1/runs/{spent_run}/pause")
    assert client.post(f"/v1/runs/{spent_run}/resume").status_code == 202
    assert runs.desired(spent_run).budget_usd == 12.5


def test_budget_of_a_run_that_goes_on_can_be_changed(client: TestClient, runs: Runs, spent_run: str) -> None:
    status = runs.status(spent_run)
    assert status is not None
    runs.put_status(status.model_copy(update={"state": RunState.RUNNING, "error": None, "spent_usd": 1.0}))
    assert client.post(f"/v1/runs/{spent_run}/resume").status_code == 409
    assert client.post(f"/v1/runs/{spent_run}/resume?budget_usd=3").status_code == 202
    assert runs.desired(spent_run).budget_usd == 3.0


def test_budget_without_prices_is_refused(client: TestClient, add_run: Callable[..., Any], is_problem: Check) -> None:
    add_run("2026-11-24-bbbbbb", state=RunState.PAUSED)
    problem = is_problem(client.post("/v1/runs/2026-11-24-bbbbbb/resume?budget_usd=3"), 409, "conflict")
    assert "no engine of the recipe has prices" in problem["detail"].lower()


@pytest.mark.parametrize("budget", ["0", "-1", "inf", "nan", "much"])
def test_budget_that_is_none_is_refused(client: TestClient, spent_run: str, budget: str) -> None:
    assert client.post(f"/v1/runs/{spent_run}/resume?budget_usd={budget}").status_code == 422


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
