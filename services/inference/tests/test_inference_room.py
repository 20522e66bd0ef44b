"""vLLM's share of a GPU is waited for, and a shard does not wait long; `nvidia-smi` is a script that reads what it says from a file."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overproof.inference import app, checking, tasks
from overproof.inference import room as module
from overproof.inference.room import NoRoom, Room
from overproof.inference.settings import InferenceSettings
from overproof.inference.shelf import Shelf
from overproof.shared import gpu_memory
from overproof.shared.errors import HandedBack, ModelError, Stopped
from overproof.shared.messages import ShardRequest
from overproof.shared.recipe import EngineOptions, PromptOptions
from overproof.shared.records import Receipt
from overproof.shared.specs import ModelRef, SampleSpec, Sampling
from overproof.shared.topology import Role, Service, Stage
from overproof.shared.work import Work
from overproof.shared.worker import Worker

SMALL_SHARE = EngineOptions(kind="vllm", gpu_memory_utilization=0.5)
WAITS = {"phase": "waiting for GPU memory"}
Publish = Callable[..., str]


class Machine:
    """GPUs of 80 GiB."""

    def __init__(self, folder: Path) -> None:
        self.said = folder / "said"
        program = folder / "nvidia-smi"
        program.write_text(f'#!/bin/sh\nwhile read -r line; do echo "$line"; done < {self.said}\n')
        program.chmod(0o755)

    def has_free(self, *gib: int) -> None:
        self.said.write_text("".join(f"{i}, GPU-{i}, {n * 1024}, {(80 - n) * 1024}\n" for i, n in enumerate(gib)))


class Clock:
    """The monotonic clock of `room.py`, set by hand."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu_memory, "SECONDS_BETWEEN_LOOKS", 0.01)
    return Machine(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(module, "HOLD_SECONDS", 0.05)
    return clock


def spec_of(engine: EngineOptions, problems: str = "prepare/" + "0" * 32, seed: int = 0) -> SampleSpec:
    return SampleSpec(
        problems=problems, model=ModelRef(name="m", kind="folder", location="m"), role=Role.TEACHER, round=0,
        prompt=PromptOptions(), sampling=Sampling(samples=2, temperature=1.0, max_tokens=30, seed=seed), engine=engine,
    )  # fmt: skip


class Waiting:
    """A shard that wants an engine, and what it reported while it waited."""

    def __init__(self, worker: Worker, engine: EngineOptions = SMALL_SHARE, *, seed: int = 0) -> None:
        self.reports: list[dict[str, Any]] = []
        self.on_report: Callable[[], None] = lambda: None
        spec = spec_of(engine, seed=seed)
        request = ShardRequest(stage=Stage.SAMPLE, key=spec.key, shard=0, run_id="r")
        self.work = Work(spec, request, worker.artifacts, self._hear)

    def _hear(self, values: dict[str, Any]) -> None:
        self.reports.append(values)
        self.on_report()

    def publish(self, shard: int) -> None:
        """As another worker would."""
        receipt = Receipt(shard=shard, parts=(), owner="other", started_at=0, finished_at=0)
        self.work.artifacts.publish(self.work.ref, receipt)


def test_engine_waits_until_a_training_has_given_the_memory_back(machine: Machine, worker: Worker) -> None:
    machine.has_free(39)
    shard = Waiting(worker)
    shard.on_report = lambda: machine.has_free(41)
    Room(InferenceSettings()).wait(shard.work)
    assert shard.reports == [WAITS]


def test_limit_says_what_is_free_what_is_wanted_and_what_to_do(machine: Machine, worker: Worker) -> None:
    machine.has_free(11)
    shard = Waiting(worker, EngineOptions(kind="vllm"))
    with pytest.raises(NoRoom) as caught:
        Room(InferenceSettings(gpu_wait_seconds=0.1)).wait(shard.work)
    assert caught.value.message == (
        "engine.gpu_memory_utilization 0.9 is 72.0 GiB, and after 0 s of waiting 11.0 of the 80.0 GiB of GPU 0 are free."
    )
    assert "lower engine.gpu_memory_utilization" in caught.value.remedy
    assert WAITS in shard.reports


def test_only_as_many_gpus_as_the_engine_takes_must_have_room(machine: Machine, worker: Worker) -> None:
    machine.has_free(79, 1)
    one = Waiting(worker)
    Room(InferenceSettings()).wait(one.work)
    assert one.reports == []
    both = Waiting(worker, SMALL_SHARE.model_copy(update={"tensor_parallel_size": 2}))
    with pytest.raises(NoRoom, match=r"1\.0 of the 80\.0 GiB of GPU 1"):
        Room(InferenceSettings(gpu_wait_seconds=0)).wait(both.work)


def test_waiting_shard_can_be_stopped(machine: Machine, worker: Worker) -> None:
    machine.has_free(0)
    shard = Waiting(worker)
    shard.on_report = shard.work.stop.set
    with pytest.raises(Stopped) as caught:
        Room(InferenceSettings()).wait(shard.work)
    assert not isinstance(caught.value, HandedBack)


def test_shard_is_held_for_a_moment_once_and_then_handed_back_after_one_look(
    machine: Machine, worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HOLD_SECONDS", 0.2)
    machine.has_free(0)
    room, first, next_one = Room(InferenceSettings()), Waiting(worker), Waiting(worker)
    with pytest.raises(HandedBack, match=r"0\.0 of the 80\.0 GiB of GPU 0 are free"):
        room.wait(first.work)
    assert len(first.reports) > 2
    with pytest.raises(HandedBack):
        room.wait(next_one.work)
    assert next_one.reports == [WAITS]
    machine.has_free(80)
    room.wait(Waiting(worker).work)
    machine.has_free(0)
    held = Waiting(worker)
    with pytest.raises(HandedBack):
        room.wait(held.work)
    assert len(held.reports) > 2


def test_seconds_of_all_shards_of_a_stage_count_and_those_of_another_stage_do_not(
    machine: Machine, worker: Worker, clock: Clock
) -> None:
    machine.has_free(0)
    room = Room(InferenceSettings(gpu_wait_seconds=3_000))
    for _ in range(3):
        with pytest.raises(HandedBack):
            room.wait(Waiting(worker).work)
        clock.now += 1_000
    with pytest.raises(HandedBack):
        room.wait(Waiting(worker, seed=1).work)
    with pytest.raises(NoRoom, match="after 3000 s of waiting"):
        room.wait(Waiting(worker).work)
    with pytest.raises(HandedBack):  # resumed, it waits anew
        room.wait(Waiting(worker).work)


def test_stage_that_another_worker_gets_on_with_does_not_fail(machine: Machine, worker: Worker, clock: Clock) -> None:
    machine.has_free(0)
    room, shard = Room(InferenceSettings(gpu_wait_seconds=1_000)), Waiting(worker)
    with pytest.raises(HandedBack):
        room.wait(shard.work)
    shard.publish(7)
    clock.now += 1_001
    with pytest.raises(HandedBack):
        room.wait(shard.work)
    clock.now += 999
    with pytest.raises(HandedBack):
        room.wait(shard.work)
    clock.now += 1
    with pytest.raises(NoRoom):
        room.wait(shard.work)


@pytest.mark.parametrize("what", ["room was found", "nobody asked"])
def test_stage_begins_to_wait_anew(machine: Machine, worker: Worker, clock: Clock, what: str) -> None:
    machine.has_free(0)
    room, shard = Room(InferenceSettings(gpu_wait_seconds=1_000)), Waiting(worker)
    with pytest.raises(HandedBack):
        room.wait(shard.work)
    clock.now += 999
    if what == "room was found":
        machine.has_free(80)
        room.wait(shard.work)
        machine.has_free(0)
    else:
        clock.now += module.FORGET_SECONDS
    clock.now += 1
    with pytest.raises(HandedBack):
        room.wait(shard.work)


def test_full_gpu_keeps_no_shard_from_a_worker_on_another_one(
    machine: Machine, settings: InferenceSettings, problems: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "takes_gpu_at_once", lambda _: True)
    monkeypatch.setattr(module, "HOLD_SECONDS", 0.1)
    machine.has_free(80, 3)
    workers = [Worker(Service.INFERENCE, settings) for _ in range(2)]
    spec = spec_of(EngineOptions(kind="canned"), problems(*(["What is 1 + 7?"] for _ in range(4))))
    workers[0].artifacts.declare(spec)

    def make(worker: Worker, shelf: Shelf, room: Room, shard: int) -> None:
        request = ShardRequest(stage=Stage.SAMPLE, key=spec.key, shard=shard, run_id="r")
        worker.make_shard(request, SampleSpec, lambda work: tasks.sample(work, shelf, settings, room))

    def make_all(worker: Worker) -> None:
        """As its threads would."""
        shelf, room = Shelf(), Room(settings)
        threads = [threading.Thread(target=make, args=(worker, shelf, room, shard)) for shard in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=60)

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    for _ in range(settings.max_attempts + 1):
        make_all(workers[1])
    seen = workers[0].leases.look("inference", spec.ref, list(range(4)))
    assert {(one.leased, one.attempts) for one in seen.values()} == {(False, 0)}
    assert set(workers[0].leases.progress(spec.ref)) == {0, 1, 2, 3}
    assert WAITS in workers[0].leases.progress(spec.ref).values()
    assert [worker.pause.is_on() for worker in workers] == [False, True]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    make_all(workers[0])
    assert workers[0].artifacts.listing(spec.ref).done == {0, 1, 2, 3}


def test_worker_counts_gpus_as_nvidia_smi_does_before_an_engine_can_start(
    settings: InferenceSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str | None] = []
    monkeypatch.setattr(
        os, "environ", {"OVERPROOF_STORAGE": settings.storage, "OVERPROOF_REDIS_URL": settings.redis_url}
    )
    monkeypatch.setattr(app.telemetry, "configure", lambda *_: None)
    monkeypatch.setattr(Worker, "run", lambda _: seen.append(os.environ.get("CUDA_DEVICE_ORDER")))
    app.main()
    assert seen == ["PCI_BUS_ID"]


def test_more_gpus_than_a_worker_has_are_refused_with_the_setting_that_gives_them(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    two = EngineOptions(kind="vllm", tensor_parallel_size=2)
    machine.has_free(80, 80)
    checking._require_gpus(two)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with pytest.raises(ModelError, match="tensor_parallel_size is 2, and this inference worker has 1 GPU") as caught:
        checking._require_gpus(two)
    assert 'OVERPROOF_INFERENCE_GPUS="0,1;2,3"' in caught.value.remedy
    machine.has_free()  # it cannot be told
    checking._require_gpus(two)
