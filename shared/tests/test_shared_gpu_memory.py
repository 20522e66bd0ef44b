"""What `nvidia-smi` says is read, the GPUs that a variable names are found, and room is waited for; the program is a script here."""

from __future__ import annotations

from pathlib import Path

import pytest

from overproof.shared import gpu_memory
from overproof.shared.gpu_memory import GIB, Gpu, count_as_nvidia_smi_does, visible, wait_for_room

FIRST, SECOND = Gpu("0", "GPU-8932f937-d72c", 10 * GIB, 80 * GIB), Gpu("1", "GPU-4d2f3a11-0000", 79 * GIB, 80 * GIB)
LINES = "0, GPU-8932f937-d72c, 10240, 71680\n1, GPU-4d2f3a11-0000, 80896, 1024\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpu_memory, "SECONDS_BETWEEN_LOOKS", 0.01)
    return tmp_path


def say(folder: Path, text: str, status: int = 0) -> None:
    program = folder / "nvidia-smi"
    program.write_text(f"#!/bin/sh\nprintf '%s' '{text}'\nexit {status}\n")
    program.chmod(0o755)


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (None, [FIRST, SECOND]),
        ("1", [SECOND]),
        ("1, 0", [SECOND, FIRST]),
        ("GPU-4d2f", [SECOND]),
        ("", []),
        ("-1", []),
        ("0,7", []),
        ("MIG-8932f937", []),
    ],
)
def test_gpus_are_those_that_the_variable_names_in_its_order(folder: Path, names: str | None, found: list[Gpu]) -> None:
    say(folder, LINES)
    assert visible(names) == found


@pytest.mark.parametrize(
    ("text", "status"),
    [("", 0), ("0, GPU-8932f937, [N/A], [N/A]\n", 0), ("No devices were found\n", 0), (LINES, 9)],
)
def test_what_cannot_be_read_is_no_gpu(folder: Path, text: str, status: int) -> None:
    say(folder, text, status)
    assert visible(None) == []


def test_no_program_is_no_gpu_and_nobody_waits(folder: Path) -> None:
    assert visible(None) == []

    def never() -> None:
        raise AssertionError("waited")

    assert wait_for_room(lambda: visible(None), lambda gpu: gpu.total, never, never, 60) is None


def test_the_shortest_gpu_is_told_when_the_time_is_over(folder: Path) -> None:
    told: list[str] = []
    short = wait_for_room(
        lambda: [FIRST, SECOND], lambda gpu: 79.5 * GIB, lambda: None, lambda: told.append("waits"), 0.1
    )
    assert short is not None
    assert str(short) == "10.0 of the 80.0 GiB of GPU 0 are free"
    assert told


def test_waiting_ends_when_memory_is_freed(folder: Path) -> None:
    looks = iter([[FIRST], [FIRST], [SECOND]])
    told: list[str] = []
    assert (
        wait_for_room(lambda: next(looks), lambda gpu: 40 * GIB, lambda: None, lambda: told.append("waits"), 60) is None
    )
    assert len(told) == 2


@pytest.mark.parametrize(
    ("given", "order"), [({}, "PCI_BUS_ID"), ({"CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, "FASTEST_FIRST")]
)
def test_cuda_counts_as_nvidia_smi_unless_somebody_said_otherwise(given: dict[str, str], order: str) -> None:
    count_as_nvidia_smi_does(given)
    assert given == {"CUDA_DEVICE_ORDER": order}
