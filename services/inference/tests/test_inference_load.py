"""Several shards in flight on a slow server: what a cancelled or paused run leaves behind, and what it pays for."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("openai", reason="the openai client is not installed")

from chat_server import KEY, ChatServer, Reply, completion, refusal
from prometheus_client import REGISTRY

from overproof.inference import spending, tasks
from overproof.inference.room import Room
from overproof.inference.settings import InferenceSettings
from overproof.inference.shelf import Shelf
from overproof.shared.messages import ShardRequest
from overproof.shared.recipe import EngineOptions, PromptOptions
from overproof.shared.specs import ModelRef, SampleSpec, Sampling
from overproof.shared.tables import COMPLETIONS, rows_of
from overproof.shared.topology import Role, Service, Stage
from overproof.shared.worker import Worker

SHARDS, PROBLEMS, SAMPLES, CONCURRENCY = 4, 30, 2, 8
SECONDS_PER_ANSWER = 0.03
ENGINE = EngineOptions(kind="openai", price_per_million_prompt_tokens=2.0, price_per_million_completion_tokens=10.0)
PRICE = (2 * 7 + 10 * 5) / 1e6
"""Of one completion: 7 tokens read, 5 written."""


def slowly(body: dict[str, Any]) -> Reply:
    time.sleep(SECONDS_PER_ANSWER)
    return completion(f"{body['messages'][-1]['content']} is {body['seed'] % 97}")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    server = ChatServer(slowly)
    yield server
    server.close()


class Bench:
    """One worker with several shards at once, as its threads would make them."""

    def __init__(self, settings: InferenceSettings, spec: SampleSpec) -> None:
        self.worker, self.settings, self.spec = Worker(Service.INFERENCE, settings), settings, spec
        self.shelf = Shelf()
        self.worker.artifacts.declare(spec)

    def make(self, shard: int) -> None:
        request = ShardRequest(stage=Stage.SAMPLE, key=self.spec.key, shard=shard, run_id="r")
        self.worker.make_shard(
            request, SampleSpec, lambda work: tasks.sample(work, self.shelf, self.settings, Room(self.settings))
        )

    def start(self) -> list[threading.Thread]:
        threads = [threading.Thread(target=self.make, args=(shard,)) for shard in range(SHARDS)]
        for thread in threads:
            thread.start()
        return threads

    def rows(self, shard: int) -> list[dict[str, Any]]:
        return list(rows_of(self.worker.artifacts.read(self.spec.ref, COMPLETIONS, part=shard)))


@pytest.fixture
def bench(settings: InferenceSettings, server: ChatServer, problems: Callable[..., str]) -> Iterator[Bench]:
    reached = {"openai_base_url": server.url, "openai_concurrency": CONCURRENCY, "lease_seconds": 1.0}
    keyed = server.settings().model_dump(include={"openai_api_key"})
    parts = [[f"What is {shard} + {i}?" for i in range(PROBLEMS)] for shard in range(SHARDS)]
    spec = SampleSpec(
        problems=problems(*parts), model=ModelRef(name="tiny", kind="served", location="tiny"), role=Role.TEACHER, round=1,
        prompt=PromptOptions(), sampling=Sampling(samples=SAMPLES, temperature=1.0, max_tokens=12, seed=5), engine=ENGINE,
    )  # fmt: skip
    bench = Bench(settings.model_copy(update=reached | keyed), spec)
    yield bench
    bench.shelf.close()


def gauge(name: str) -> float:
    return REGISTRY.get_sample_value(name, {"role": "teacher", "stage": "sample"}) or 0.0


def dollars() -> float:
    return float(spending.SPENT.labels("teacher")._value.get())


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.01)


def ended(threads: list[threading.Thread]) -> bool:
    return not any(thread.is_alive() for thread in threads)


def test_halted_run_asks_no_more_and_the_next_attempt_asks_the_same(bench: Bench, server: ChatServer) -> None:
    before, ref, artifacts = dollars(), bench.spec.ref, bench.worker.artifacts
    threads = bench.start()
    wait_until(lambda: len(server.asked) > 2 * CONCURRENCY, "the load")
    assert server.most_at_once <= CONCURRENCY  # later the server still works on what its clients have given up
    bench.worker.leases.halt(ref)  # what the pipeline does for a run that is cancelled or paused
    wait_until(lambda: ended(threads), "the end of the shards")
    time.sleep(10 * SECONDS_PER_ANSWER)  # what had been sent is read
    asked = len(server.asked)
    assert asked < SHARDS * PROBLEMS * SAMPLES
    time.sleep(10 * SECONDS_PER_ANSWER)
    assert len(server.asked) == asked, "requests go on after their shards"
    assert (gauge("overproof_sequences_running"), gauge("overproof_sequences_waiting")) == (0, 0)
    assert (dollars() - before) <= asked * PRICE * 1.0001
    listing = artifacts.listing(ref)
    assert (listing.done, listing.failed) == (set(), set())
    assert {bench.worker.leases.attempts(ref, shard) for shard in range(SHARDS)} == {0}

    first = {(body["messages"][-1]["content"], body["seed"]) for body in server.asked}
    server.asked.clear()
    bench.worker.leases.unhalt(ref)
    threads = bench.start()
    wait_until(lambda: ended(threads), "the second attempt")
    assert artifacts.listing(ref).done == set(range(SHARDS))
    again = Counter((body["messages"][-1]["content"], body["seed"]) for body in server.asked)
    assert first <= again.keys()
    assert set(again.values()) == {1}
    for shard in range(SHARDS):
        keys = [(row["problem_id"], row["sample"]) for row in bench.rows(shard)]
        assert keys == [(f"{shard}-{i}", k) for i in range(PROBLEMS) for k in range(SAMPLES)]


def test_ending_worker_hands_all_shards_back_while_the_server_thinks(bench: Bench, server: ChatServer) -> None:
    gate = threading.Event()

    def answer(body: dict[str, Any]) -> Reply:
        gate.wait(60)
        return completion("late")

    server.answer = answer
    threads = bench.start()
    wait_until(lambda: len(server.asked) == CONCURRENCY, "the load")
    bench.worker._end()
    wait_until(lambda: ended(threads), "the end of the shards")
    assert not gate.is_set()
    gate.set()
    assert len(server.asked) == CONCURRENCY
    assert bench.worker.artifacts.listing(bench.spec.ref).done == set()


def test_stumbling_server_loses_and_doubles_nothing_under_load(bench: Bench, server: ChatServer) -> None:
    lock, count = threading.Lock(), [0]

    def stumble(body: dict[str, Any]) -> Reply:
        with lock:
            count[0] += 1
            turn = count[0] % 9
        if turn == 3:
            return refusal(429, "slow down", retry_after_ms="20")
        if turn == 6:
            return Reply(None, hang_up=True)
        return slowly(body)

    server.answer = stumble
    threads = bench.start()
    wait_until(lambda: ended(threads), "the end of the shards")
    assert bench.worker.artifacts.listing(bench.spec.ref).done == set(range(SHARDS))
    for shard in range(SHARDS):
        rows = bench.rows(shard)
        assert len(rows) == PROBLEMS * SAMPLES
        assert {row["finish_reason"] for row in rows} == {"stop"}
        spent = bench.worker.artifacts.receipt(bench.spec.ref, shard).notes["spent"]["r"]
        assert (spent["prompt_tokens"], spent["tokens"]) == (7 * len(rows), 5 * len(rows))
    assert KEY not in str(bench.rows(0))
