"""vLLM's share of a GPU is waited for; `nvidia-smi` is a script that reads what it says from a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from overproof.inference.room import NoRoom, wait_for_room
from overproof.inference.settings import InferenceSettings
from overproof.shared import gpu_memory
from overproof.shared.errors import Stopped
from overproof.shared.recipe import EngineOptions

SMALL_SHARE = EngineOptions(kind="vllm", gpu_memory_utilization=0.5)


class Machine:
    """GPUs of 80 GiB, and what happened while a shard waited for them."""

    def __init__(self, folder: Path) -> None:
        self.said = folder / "said"
        self.told = 0
        program = folder / "nvidia-smi"
        program.write_text(f'#!/bin/sh\nwhile read -r line; do echo "$line"; done < {self.said}\n')
        program.chmod(0o755)

    def has_free(self, *gib: int) -> None:
        self.said.write_text("".join(f"{i}, GPU-{i}, {n * 1024}, {(80 - n) * 1024}\n" for i, n in enumerate(gib)))

    def tell(self) -> None:
        self.told += 1


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(gpu_memory, "SECONDS_BETWEEN_LOOKS", 0.01)
    return Machine(tmp_path)


def nothing() -> None:
    pass


def test_engine_waits_until_a_training_has_given_the_memory_back(machine: Machine) -> None:
    machine.has_free(39)

    def give_back() -> None:
        machine.has_free(41)

    wait_for_room(SMALL_SHARE, InferenceSettings(), give_back, machine.tell)
    assert machine.told == 1


def test_limit_says_what_is_free_what_is_wanted_and_what_to_do(machine: Machine) -> None:
    machine.has_free(11)
    with pytest.raises(NoRoom) as caught:
        wait_for_room(EngineOptions(kind="vllm"), InferenceSettings(gpu_wait_seconds=0.1), nothing, machine.tell)
    assert caught.value.message == (
        "engine.gpu_memory_utilization 0.9 is 72.0 GiB, and after 0 s of waiting 11.0 of the 80.0 GiB of GPU 0 are free."
    )
    assert "lower engine.gpu_memory_utilization" in caught.value.remedy
    assert machine.told > 0


def test_only_as_many_gpus_as_the_engine_takes_must_have_room(machine: Machine) -> None:
    machine.has_free(79, 1)
    wait_for_room(SMALL_SHARE, InferenceSettings(), nothing, machine.tell)
    assert machine.told == 0
    both = SMALL_SHARE.model_copy(update={"tensor_parallel_size": 2})
    with pytest.raises(NoRoom, match=r"1\.0 of the 80\.0 GiB of GPU 1"):
        wait_for_room(both, InferenceSettings(gpu_wait_seconds=0), nothing, machine.tell)


def test_waiting_shard_can_be_stopped(machine: Machine) -> None:
    def stop() -> None:
        raise Stopped("now")

    machine.has_free(0)
    with pytest.raises(Stopped):
        wait_for_room(SMALL_SHARE, InferenceSettings(), stop, machine.tell)
