"""Grading over HTTP: the real queue, with a worker of the test's own on the other end."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow.parquet as pq
import pytest
import redis
from fastapi.testclient import TestClient

from overproof.gateway.adapters import grader as grader_module
from overproof.gateway.settings import GatewaySettings
from overproof.shared.artifacts import Artifacts
from overproof.shared.files import Files
from overproof.shared.leases import PREFIX
from overproof.shared.messages import ShardRequest
from overproof.shared.records import Failure, Receipt
from overproof.shared.specs import AnswersSpec
from overproof.shared.tables import ANSWERS, GRADES, conform, table_of

ITEMS = [
    {"text": "so \\boxed{2}", "gold": "2"},
    {"answer": "3", "gold": ["4", "5"]},
    {"text": "First", "gold": "7", "finish_reason": "length"},
]


class GradingWorker:
    """Takes messages off the grading queue and answers them: a text that contains its gold is correct."""

    def __init__(self, redis_url: str, storage: str) -> None:
        self._redis = redis.Redis.from_url(redis_url)
        self._artifacts = Artifacts(Files(storage))
        self.requests: list[ShardRequest] = []
        self.fails = False
        self.loses = 0
        """Messages that it takes and forgets, as a worker that is killed does."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _work(self) -> None:
        while not self._stop.is_set():
            found: Any = self._redis.brpop([f"{PREFIX}grading"], timeout=0.1)
            if found:
                message = json.loads(found[1])
                assert message["headers"]["task"] == "grading.answers"
                _, kwargs, _ = json.loads(base64.b64decode(message["body"]))
                self._answer(ShardRequest.model_validate(kwargs))

    def _answer(self, request: ShardRequest) -> None:
        self.requests.append(request)
        if len(self.requests) <= self.loses:
            return
        ref = f"{request.stage}/{request.key}"
        if self.fails:
            self._artifacts.fail(
                ref,
                Failure(shard=0, message="It broke.", remedy="Mend it.", kind="X", attempts=1, owner="w", failed_at=0),
            )
            return
        assert isinstance(self._artifacts.spec(ref), AnswersSpec)
        with self._artifacts.files.open(f"artifacts/{ref}/answers.parquet") as file:
            rows = conform(pq.read_table(file), ANSWERS).to_pylist()
        part = self._artifacts.write_part(ref, 0, GRADES, [table_of([self._grade(row) for row in rows], GRADES)])
        self._artifacts.publish(ref, Receipt(shard=0, parts=(part,), owner="w", started_at=0, finished_at=1))

    def _grade(self, row: dict[str, Any]) -> dict[str, Any]:
        right = any(gold in row["text"] for gold in row["gold"])
        verdict = "truncated" if row["finish_reason"] == "length" else "correct" if right else "wrong"
        return {
            "problem_id": str(row["index"]), "sample": 0, "verdict": verdict, "extracted": None, "gold": row["gold"][0],
            "method": "boxed/exact" if row["is_solution"] else "bare/exact", "reason": "", "seconds": 0.1, "grader": "1",
            "spec": "s",
        }  # fmt: skip


@pytest.fixture
def online(settings: GatewaySettings, redis_url: str) -> GatewaySettings:
    return settings.model_copy(update={"redis_url": redis_url, "max_answers": 10, "grade_timeout_seconds": 10})


@pytest.fixture
def worker(online: GatewaySettings) -> Iterator[GradingWorker]:
    one = GradingWorker(online.redis_url, online.storage)
    yield one
    one.close()


@pytest.fixture
def grader(online: GatewaySettings, make_client: Callable[[GatewaySettings], TestClient]) -> TestClient:
    return make_client(online)


def test_verdicts_come_in_the_order_of_the_items(grader: TestClient, worker: GradingWorker) -> None:
    response = grader.post("/v1/grade", json={"items": ITEMS})
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    assert [(one["verdict"], one["correct"]) for one in data] == [
        ("correct", True),
        ("wrong", False),
        ("truncated", False),
    ]
    assert [one["method"] for one in data] == ["boxed/exact", "bare/exact", "boxed/exact"]
    assert [request.run_id for request in worker.requests] == ["grade-api"]


def test_the_same_batch_is_judged_once(grader: TestClient, worker: GradingWorker) -> None:
    first = grader.post("/v1/grade", json={"items": ITEMS}).json()
    assert grader.post("/v1/grade", json={"items": ITEMS}).json() == first
    assert len(worker.requests) == 1
    slow = {"items": ITEMS, "options": {"seconds_per_answer": 5}}
    assert grader.post("/v1/grade", json=slow).status_code == 200
    assert len(worker.requests) == 2


def test_verdicts_that_were_damaged_are_made_again(
    grader: TestClient, worker: GradingWorker, online: GatewaySettings
) -> None:
    first = grader.post("/v1/grade", json={"items": ITEMS}).json()
    (part,) = Files(online.storage).local("artifacts/answers").glob("*/part-*.parquet")
    part.write_bytes(part.read_bytes()[:-1])
    assert grader.post("/v1/grade", json={"items": ITEMS}).json() == first
    assert len(worker.requests) == 2


def test_a_batch_that_grading_gave_up_is_told_and_tried_again(grader: TestClient, worker: GradingWorker) -> None:
    worker.fails = True
    response = grader.post("/v1/grade", json={"items": ITEMS})
    assert (response.status_code, response.json()["detail"], response.json()["remedy"]) == (
        502,
        "It broke.",
        "Mend it.",
    )
    worker.fails = False
    assert grader.post("/v1/grade", json={"items": ITEMS}).status_code == 200


def test_a_message_that_died_with_its_worker_is_sent_again(
    grader: TestClient, worker: GradingWorker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grader_module, "SEND_AGAIN_SECONDS", 0.1)
    worker.loses = 2
    assert grader.post("/v1/grade", json={"items": ITEMS}).status_code == 200
    assert len(worker.requests) >= 3


def test_without_a_worker_the_wait_ends(
    online: GatewaySettings, make_client: Callable[[GatewaySettings], TestClient]
) -> None:
    client = make_client(online.model_copy(update={"grade_timeout_seconds": 0.3}))
    started = time.monotonic()
    response = client.post("/v1/grade", json={"items": ITEMS})
    assert (response.status_code, response.json()["type"]) == (504, "urn:overproof:error:service-timeout")
    assert response.json()["remedy"]
    assert time.monotonic() - started < 5


def test_without_redis_it_says_so_at_once(client: TestClient) -> None:
    started = time.monotonic()
    response = client.post("/v1/grade", json={"items": ITEMS})
    assert (response.status_code, response.json()["type"]) == (503, "urn:overproof:error:broker-unavailable")
    assert time.monotonic() - started < 5


BAD: list[tuple[str, Any, int, str]] = [
    ("no items", {}, 422, "items"), ("empty", {"items": []}, 422, "items"), ("a list", [], 422, ""),
    ("both", {"items": [{"text": "a", "answer": "b", "gold": "c"}]}, 422, "items.0"),
    ("neither", {"items": [{"gold": "c"}]}, 422, "items.0"), ("no gold", {"items": [{"text": "a"}]}, 422, "items.0.gold"),
    ("empty gold", {"items": [{"text": "a", "gold": []}]}, 422, "items.0.gold"),
    ("unknown field", {"items": [{"txt": "a", "gold": "1"}]}, 422, "items.0"),
    ("too many", {"items": [{"text": "a", "gold": "1"}] * 11}, 413, ""),
    ("a number as gold", {"items": [{"text": "a", "gold": 5}]}, 422, "items.0.gold"),
    ("seventeen golds", {"items": [{"text": "a", "gold": ["1"] * 17}]}, 422, "items.0.gold"),
    ("a number as text", {"items": [{"text": 5, "gold": "1"}]}, 422, "items.0.text"),
    ("bad reason", {"items": [{"text": "a", "gold": "1", "finish_reason": "x"}]}, 422, "items.0.finish_reason"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "body", "status", "field"), BAD, ids=[case[0] for case in BAD])
def test_a_bad_batch_is_refused(grader: TestClient, case: str, body: Any, status: int, field: str) -> None:
    response = grader.post("/v1/grade", json=body)
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    problem = response.json()
    assert all(error["field"].startswith(field) for error in problem.get("errors", []))
    assert problem.get("remedy") or ": Give " in problem["detail"]


def test_a_large_body_is_cut_off(online: GatewaySettings, make_client: Callable[[GatewaySettings], TestClient]) -> None:
    client = make_client(online.model_copy(update={"max_grade_bytes": 2048}))
    assert client.post("/v1/grade", json={"items": [{"text": "x" * 5000, "gold": "1"}]}).status_code == 413


def test_lone_surrogates_do_not_break_it(grader: TestClient) -> None:
    body = b'{"items": [{"text": "\\ud800", "gold": "1"}]}'
    response = grader.post("/v1/grade", content=body, headers={"content-type": "application/json"})
    assert response.status_code == 422
