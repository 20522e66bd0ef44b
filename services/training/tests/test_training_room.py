"""A training waits until its GPUs have room; `nvidia-smi` is a script that reads what it says from a file."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overproof.shared import gpu_memory
from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import Stopped
from overproof.shared.messages import ShardRequest
from overproof.shared.specs import TrainSpec
from overproof.shared.topology import Stage
from overproof.shared.work import Work
from overproof.training.job import PREPARED_VERSION, Job
from overproof.training.room import NoRoom, wait_for_room
from overproof.training.settings import TrainingSettings


class Machine:
    """GPUs of 80 GiB."""

    def __init__(self, folder: Path) -> None:
        self.said = folder / "said"
        program = folder / "nvidia-smi"
        program.write_text(f'#!/bin/sh\nwhile read -r line; do echo "$line"; done < {self.said}\n')
        program.chmod(0o755)

    def has_free(self, *gib: int) -> None:
        self.said.write_text("".join(f"{i}, GPU-{i}, {n * 1024}, {(80 - n) * 1024}\n" for i, n in enumerate(gib)))


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu_memory, "SECONDS_BETWEEN_LOOKS", 0.01)
    return Machine(tmp_path)


class Waiting:
    """A training that needs so many GiB, and what it reported while it waited."""

    def __init__(self, folder: Path, artifacts: Artifacts, spec: TrainSpec, needs: float | None) -> None:
        self.reports: list[dict[str, Any]] = []
        self.on_report: Callable[[], None] = lambda: None
        self.work = Work(
            spec, ShardRequest(stage=Stage.TRAIN, key=spec.key, shard=0, run_id="r"), artifacts, self._hear
        )
        self.job = Job(
            scratch=folder, storage="", selected=spec.selected, student=folder, context=None, vocab_size=None, n_parameters=1,
            options=spec.options, threads=1,
        )  # fmt: skip
        estimate = None if needs is None else {"device_gib": needs, "gpu": "a GPU of 80 GiB"}
        self.job.preflight.write_text(json.dumps({"estimate": estimate}))

    def _hear(self, values: dict[str, Any]) -> None:
        self.reports.append(values)
        self.on_report()

    def wait(self, **settings: Any) -> None:
        wait_for_room(self.work, self.job, TrainingSettings(**settings))


@pytest.fixture
def waiting(tmp_path: Path, artifacts: Artifacts, train_spec: Callable[..., TrainSpec]) -> Callable[..., Waiting]:
    """`waiting(needs, **options)`."""
    return lambda needs, **options: Waiting(tmp_path, artifacts, train_spec(f"prepare/{0:032x}", **options), needs)


def test_training_waits_until_inference_has_given_the_memory_back(
    machine: Machine, waiting: Callable[..., Waiting]
) -> None:
    training = waiting(40.0)
    training.on_report = lambda: machine.has_free(41)
    machine.has_free(39)
    training.wait()
    assert training.reports == [{"phase": "waiting for GPU memory"}]


def test_limit_says_what_is_free_what_is_needed_and_who_can_free_it(
    machine: Machine, waiting: Callable[..., Waiting]
) -> None:
    machine.has_free(7)
    with pytest.raises(NoRoom) as caught:
        waiting(41.25).wait(training_wait_seconds=0.1)
    assert caught.value.message == (
        "The training needs about 41.2 GiB per GPU, and after 0 s of waiting 7.0 of the 80.0 GiB of GPU 0 are free."
    )
    assert "Inference keeps it while it has shards to make, of this run too" in caught.value.remedy
    assert "OVERPROOF_TRAINING_WAIT_SECONDS" in caught.value.remedy


@pytest.mark.parametrize("needs", [None, 81.0])
def test_nothing_is_waited_for_without_an_estimate_or_with_one_beyond_the_gpu(
    machine: Machine, waiting: Callable[..., Waiting], needs: float | None
) -> None:
    machine.has_free(1)
    training = waiting(needs)
    training.wait()
    assert training.reports == []


def test_nothing_is_waited_for_where_the_training_sees_no_gpu(
    machine: Machine, waiting: Callable[..., Waiting]
) -> None:
    machine.has_free(1)
    training = waiting(40.0)
    training.job.preflight.write_text(json.dumps({"estimate": {"device_gib": 40.0}}))
    training.wait()
    assert training.reports == []


def test_gpu_that_is_all_but_empty_is_not_waited_for(machine: Machine, waiting: Callable[..., Waiting]) -> None:
    machine.has_free(73)
    training = waiting(79.5)
    training.wait()
    assert training.reports == []


@pytest.mark.parametrize("how", ["setting", "environment"])
def test_only_the_gpus_that_training_may_use_must_have_room(
    machine: Machine, waiting: Callable[..., Waiting], how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.has_free(1, 79)
    training = waiting(40.0)
    with pytest.raises(NoRoom, match="GPU 0"):
        training.wait(training_wait_seconds=0)
    if how == "environment":
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    training.wait(training_wait_seconds=0, training_gpus="1" if how == "setting" else "")


def test_every_process_needs_room_on_a_gpu_of_its_own(machine: Machine, waiting: Callable[..., Waiting]) -> None:
    machine.has_free(79, 1)
    waiting(40.0, processes=1).wait(training_wait_seconds=0)
    with pytest.raises(NoRoom, match="GPU 1"):
        waiting(40.0, processes=2).wait(training_wait_seconds=0)


def test_waiting_training_can_be_stopped(machine: Machine, waiting: Callable[..., Waiting]) -> None:
    machine.has_free(0)
    training = waiting(40.0)
    training.on_report = training.work.stop.set
    with pytest.raises(Stopped):
        training.wait()


def test_worker_tells_of_no_room_before_a_process_group_starts(
    machine: Machine,
    artifacts: Artifacts,
    select: Any,
    rows: Any,
    train_spec: Any,
    settings: TrainingSettings,
    deliver: Any,
) -> None:
    machine.has_free(0)
    spec = train_spec(select(artifacts, rows()))
    scratch = artifacts.files.local(artifacts.folder(spec.ref)) / "work"
    scratch.mkdir(parents=True)
    estimate = {"device_gib": 40.0, "gpu": "a GPU of 80 GiB"}
    preflight = {"warnings": [], "estimate": estimate, "schedule": {"steps": 10, "save_every": 5}}
    (scratch / "preflight.json").write_text(json.dumps(preflight))
    (scratch / "PREPARED").write_text(f"{PREPARED_VERSION} {spec.options.processes}")
    deliver(spec, settings.model_copy(update={"training_wait_seconds": 0}))
    failure = artifacts.failure(spec.ref, 0)
    assert failure.kind == "NoRoom"
    assert "0.0 of the 80.0 GiB of GPU 0 are free" in failure.message
    assert not (scratch / "log.txt").exists()


def test_training_waits_as_long_as_an_engine_does_for_a_training() -> None:
    page = (Path(__file__).parents[3] / "docs/settings.md").read_text()
    limits = [
        line.split("|")[2].strip() for line in page.splitlines() if re.search(r"_(GPU|TRAINING)_WAIT_SECONDS`", line)
    ]
    assert limits == [f"`{TrainingSettings().training_wait_seconds:.0f}`"] * 2
