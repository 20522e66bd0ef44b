"""The life of a shard around a task function."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from overproof.shared.errors import EngineUnavailable, HandedBack, ModelError, Stopped, StorageUnavailable
from overproof.shared.messages import ShardRequest
from overproof.shared.settings import Settings
from overproof.shared.specs import CheckGoldSpec
from overproof.shared.tables import GOLD_CHECKS, table_of
from overproof.shared.topology import Service, Stage, TaskName
from overproof.shared.work import Work
from overproof.shared.worker import Worker

SPEC = CheckGoldSpec(problems="prepare/" + "0" * 32)
REQUEST = ShardRequest(stage=Stage.CHECK_GOLD, key=SPEC.key, shard=0, run_id="r")
ROW = {"problem_id": "1", "source": "s", "answer": "1", "readable": True, "reason": ""}
Make = Callable[[Work[CheckGoldSpec]], None]


@pytest.fixture
def worker(redis_url: str, storage: Path) -> Worker:
    worker = Worker(
        Service.GRADING, Settings(storage=str(storage), redis_url=redis_url, lease_seconds=0.4, max_attempts=2)
    )
    worker.artifacts.declare(SPEC)
    return worker


def make(work: Work[CheckGoldSpec]) -> None:
    work.write(GOLD_CHECKS, [table_of([ROW], GOLD_CHECKS)])
    work.note(unreadable=0)


def announced(worker: Worker) -> int:
    return worker.leases.waiting("pipeline")


def test_shard_is_published_released_and_announced(worker: Worker) -> None:
    worker.make_shard(REQUEST, CheckGoldSpec, make)
    receipt = worker.artifacts.receipt(SPEC.ref, 0)
    assert (receipt.parts[0].rows, receipt.notes) == (1, {"unreadable": 0})
    assert not worker.leases.look("grading", SPEC.ref, [0])[0].leased
    assert announced(worker) == 1


def test_second_delivery_makes_nothing_and_announces_again(worker: Worker) -> None:
    calls: list[int] = []
    for _ in range(2):
        worker.make_shard(REQUEST, CheckGoldSpec, lambda work: (calls.append(1), make(work))[1])
    assert calls == [1]
    assert announced(worker) == 2


def test_users_mistake_is_recorded_for_good(worker: Worker) -> None:
    def refuse(work: Work[CheckGoldSpec]) -> None:
        raise ModelError("No tokenizer.", "Save one.")

    worker.make_shard(REQUEST, CheckGoldSpec, refuse)
    failure = worker.artifacts.failure(SPEC.ref, 0)
    assert (failure.kind, failure.message, failure.remedy) == ("ModelError", "No tokenizer.", "Save one.")
    assert announced(worker) == 1


@pytest.mark.parametrize("error", [EngineUnavailable("Out of memory."), ZeroDivisionError("oops")])
def test_shard_that_never_ends_is_poison_after_its_attempts(worker: Worker, error: Exception) -> None:
    def fail(work: Work[CheckGoldSpec]) -> None:
        raise error

    for _ in range(3):
        worker.make_shard(REQUEST, CheckGoldSpec, fail)
    failure = worker.artifacts.failure(SPEC.ref, 0)
    assert failure.kind == "Poison"
    assert str(error) in failure.message
    assert "begun 2 times" in failure.message


@pytest.mark.parametrize("error", [Stopped("stop"), HandedBack("no room"), StorageUnavailable("full")])
def test_stop_handing_back_and_full_storage_use_up_no_attempt(worker: Worker, error: Exception) -> None:
    def fail(work: Work[CheckGoldSpec]) -> None:
        raise error

    for _ in range(6):
        worker.make_shard(REQUEST, CheckGoldSpec, fail)
    assert not worker.artifacts.listing(SPEC.ref).failed
    worker.make_shard(REQUEST, CheckGoldSpec, make)
    assert worker.artifacts.is_published(SPEC.ref, 0)


def test_shard_that_is_handed_back_is_free_and_says_why_until_somebody_begins_the_next(worker: Worker) -> None:
    def hand_back(work: Work[CheckGoldSpec]) -> None:
        work.progress(phase="waiting")
        raise HandedBack("no room")

    assert not worker.pause.is_on()
    worker.make_shard(REQUEST, CheckGoldSpec, hand_back)
    assert worker.pause.is_on()
    assert worker.leases.look("grading", SPEC.ref, [0])[0] == (False, None, 0, None)
    assert worker.leases.progress(SPEC.ref) == {0: {"phase": "waiting"}}
    assert announced(worker) == 0
    assert not worker.artifacts.listing(SPEC.ref).failed

    def look(work: Work[CheckGoldSpec]) -> None:
        assert worker.leases.progress(SPEC.ref) == {}
        make(work)

    worker.make_shard(REQUEST, CheckGoldSpec, look)
    assert worker.artifacts.is_published(SPEC.ref, 0)


def test_long_shard_keeps_its_lease(worker: Worker) -> None:
    def slow(work: Work[CheckGoldSpec]) -> None:
        time.sleep(1.0)
        assert worker.leases.look("grading", SPEC.ref, [0])[0].leased
        make(work)

    worker.make_shard(REQUEST, CheckGoldSpec, slow)
    assert worker.artifacts.is_published(SPEC.ref, 0)


def run_until_stopped(worker: Worker, trigger: Callable[[], None]) -> bool:
    """Whether the function saw the stop within three seconds of the trigger."""
    began, saw = threading.Event(), threading.Event()

    def wait(work: Work[CheckGoldSpec]) -> None:
        began.set()
        if work.stop.wait(3):
            saw.set()
        work.check()

    thread = threading.Thread(target=worker.make_shard, args=(REQUEST, CheckGoldSpec, wait))
    thread.start()
    assert began.wait(2)
    trigger()
    thread.join()
    return saw.is_set()


def test_cancelled_artifact_stops_its_worker(worker: Worker) -> None:
    assert run_until_stopped(worker, lambda: worker.leases.halt(SPEC.ref))
    assert not worker.artifacts.is_published(SPEC.ref, 0)


def test_lost_lease_stops_its_worker(worker: Worker) -> None:
    def steal() -> None:
        worker.leases._redis.set(f"overproof:lease:{SPEC.ref}/0", "somebody else")

    assert run_until_stopped(worker, steal)


def test_ending_worker_hands_its_shard_back_at_once(worker: Worker) -> None:
    assert run_until_stopped(worker, worker._end)
    assert not worker.leases.look("grading", SPEC.ref, [0])[0].leased


def test_redis_that_dies_under_way_does_not_stop_the_work(worker: Worker, redis_server: object) -> None:
    def wiped(work: Work[CheckGoldSpec]) -> None:
        redis_server.kill()  # type: ignore[attr-defined]
        time.sleep(0.6)
        make(work)

    try:
        worker.make_shard(REQUEST, CheckGoldSpec, wiped)
    finally:
        redis_server.start()  # type: ignore[attr-defined]
    assert worker.artifacts.is_published(SPEC.ref, 0)


def test_message_through_the_queue_reaches_the_function(worker: Worker) -> None:
    worker.task(TaskName.CHECK_GOLD, CheckGoldSpec)(make)
    worker.app.tasks[str(TaskName.CHECK_GOLD)](**REQUEST.model_dump(mode="json"))
    assert worker.artifacts.is_published(SPEC.ref, 0)
    with pytest.raises(ValueError, match="shard"):
        worker.app.tasks[str(TaskName.CHECK_GOLD)](**{**REQUEST.model_dump(mode="json"), "shard": -1})
