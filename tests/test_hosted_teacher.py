"""A teacher behind HTTP through a whole installation: a budget, a raised budget, a killed worker, a server that stumbles."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai", reason="the openai client is not installed")

from chat_server import KEY, ChatServer, Reply, completion, refusal, served_by
from installation import ROOT, Installation, installed

from overproof.cli.errors import Refused
from overproof.inference.adapters.transformers_engine import TransformersEngine
from overproof.shared.recipe import EngineOptions, Recipe
from overproof.shared.tables import COMPLETIONS

RECIPE: dict[str, Any] = {
    "name": "hosted",
    "goal": "sample",
    "data": {"train": {"generator": "demo-math", "split": "train", "n": 120, "seed": 11}},
    "models": {"teacher": "demo-teacher"},
    "engine": {
        "kind": "openai", "price_per_million_prompt_tokens": 100, "price_per_million_completion_tokens": 400, "budget_usd": 3,
    },
    "sampling": {"max_samples": 2, "temperature": 0.9, "max_tokens": 120, "seed": 1},
    "problems_per_shard": 20,
}  # fmt: skip
SMALL: dict[str, Any] = {"problems_per_shard": 5}
IN_FLIGHT = 4
"""Shards that the worker makes at once."""


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    """The demo's teacher."""
    engine = TransformersEngine(
        ROOT / "demo" / "models" / "teacher", EngineOptions(kind="transformers", dtype="float32")
    )
    server = ChatServer(served_by(engine), models=({"id": "demo-teacher", "object": "model"},))
    yield server
    server.close()
    engine.close()


def rows(installation: Installation, run_id: str) -> list[dict[str, Any]]:
    ref = installation.gateway.run(run_id)["artifacts"]["completions"]
    return [row for batch in installation.artifacts.read(ref, COMPLETIONS) for row in batch.to_pylist()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_budget_pauses_a_run_and_a_larger_one_ends_it(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text(KEY + "\n")
    monkeypatch.setenv("OVERPROOF_OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OVERPROOF_OPENAI_API_KEY_FILE", str(tmp_path / "key"))
    server.next_replies.extend([refusal(429, "slow down", retry_after="0.1"), refusal(500, "oops")] * 2)
    with installed(tmp_path / "state") as installation:
        run_id = installation.submit(RECIPE)
        installation._until(lambda: installation.state_of(run_id) == "paused", 200, "the budget did not pause the run")
        paused = installation.gateway.run(run_id)
        assert (paused["error"]["kind"], paused["wanted"], paused["budget_usd"]) == ("BudgetReached", "running", 3.0)
        assert paused["spent_usd"] >= 3.0
        assert 0 < paused["stages"][-1]["shards_done"] < 6
        with pytest.raises(Refused, match="its budget is"):
            installation.gateway.want(run_id, "resume")

        installation.gateway.want(run_id, "resume", 1000.0)
        installation.wait_for(run_id, "sample", paused["stages"][-1]["shards_done"] + 1)
        installation.kill("inference")
        run = installation.wait(run_id)
        assert run["state"] == "succeeded", run["error"]

        found = rows(installation, run_id)
        assert len({(row["problem_id"], row["sample"]) for row in found}) == len(found) == 240
        assert {row["finish_reason"] for row in found} <= {"stop", "length"}
        engine = Recipe.model_validate(RECIPE).engine
        cost = engine.cost_usd(sum(row["prompt_tokens"] for row in found), sum(row["n_tokens"] for row in found))
        assert run["spent_usd"] == pytest.approx(cost)
        texts = {(body["messages"][-1]["content"], body["seed"]) for body in server.asked}
        assert len(texts) == 240  # what was asked twice, after the kill, was asked with the same seed
    files = [path for path in (tmp_path / "state").rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_budget_holds_with_shards_in_flight_and_nothing_is_paid_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowly(body: dict[str, Any]) -> Reply:
        time.sleep(0.02)
        return completion("It is \\boxed{4}.", prompt_tokens=50, tokens=100)

    server = ChatServer(slowly, models=({"id": "demo-teacher", "object": "model"},))
    monkeypatch.setenv("OVERPROOF_OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OVERPROOF_OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OVERPROOF_OPENAI_CONCURRENCY", "8")
    monkeypatch.setenv("OVERPROOF_CONCURRENCY", str(IN_FLIGHT))
    engine = Recipe.model_validate(RECIPE).engine
    shard = 2 * SMALL["problems_per_shard"] * engine.cost_usd(50, 100)
    recipe = RECIPE | SMALL | {"engine": RECIPE["engine"] | {"budget_usd": 9.5 * shard}}
    try:
        with installed(tmp_path / "state") as installation:
            run_id = installation.submit(recipe)
            installation._until(lambda: installation.state_of(run_id) == "paused", 200, "the budget did not pause")
            time.sleep(1.0)  # what was under way has ended
            paused, asked = installation.gateway.run(run_id), len(server.asked)
            assert 9.5 * shard <= paused["spent_usd"] <= (9.5 + IN_FLIGHT) * shard
            assert paused["spent_usd"] == pytest.approx(asked * engine.cost_usd(50, 100))
            time.sleep(3.0)
            assert len(server.asked) == asked, "a paused run goes on asking"
            installation.gateway.want(run_id, "resume", 1000.0)
            run = installation.wait(run_id)
            assert run["state"] == "succeeded", run["error"]
            assert len(server.asked) == 240
            assert run["spent_usd"] == pytest.approx(240 * engine.cost_usd(50, 100))
    finally:
        server.close()


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_cancelled_run_asks_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(body: dict[str, Any]) -> Reply:
        time.sleep(0.2)
        return completion("It is \\boxed{4}.")

    server = ChatServer(slowly, models=({"id": "demo-teacher", "object": "model"},))
    monkeypatch.setenv("OVERPROOF_OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OVERPROOF_OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OVERPROOF_OPENAI_CONCURRENCY", "4")
    monkeypatch.setenv("OVERPROOF_CONCURRENCY", str(IN_FLIGHT))
    try:
        with installed(tmp_path / "state") as installation:
            run_id = installation.submit(RECIPE | SMALL)
            installation._until(lambda: len(server.asked) > 12, 200, "nothing was asked")
            installation.gateway.want(run_id, "cancel")
            installation._until(lambda: installation.state_of(run_id) == "cancelled", 60, "it was not cancelled")
            time.sleep(6.0)  # a heartbeat of the longest lease, and the answers that were under way
            asked = len(server.asked)
            assert asked < 240
            time.sleep(2.0)
            assert len(server.asked) == asked
    finally:
        server.close()
