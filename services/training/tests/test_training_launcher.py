"""Children are followed, ended with all their descendants, and their end is explained."""

from __future__ import annotations

import errno
import json
import sys
import threading
import time
from pathlib import Path
from threading import Event

import psutil
import pytest

from overproof.shared.errors import (
    DatasetError,
    EngineUnavailable,
    OverproofError,
    Stopped,
    StorageUnavailable,
    UserError,
)
from overproof.training import checkpointing, failures, launcher
from overproof.training.failures import explain, forget, full_disk_named, reported
from overproof.training.metrics import Follower

GRANDCHILD = """
import os, subprocess, sys, time
from overproof.training.tether import PARENT, tie_to
if len(sys.argv) > 2:
    tie_to(int(os.environ[PARENT]))
    open(sys.argv[1], "w").write(str(os.getpid()))
    time.sleep(60)
import signal
signal.signal(signal.SIGTERM, signal.SIG_IGN)
subprocess.Popen([sys.executable, *sys.argv, "rank"], start_new_session=True).wait()
"""
"""A stubborn parent and, as torchrun starts its ranks, a child of it in a session of its own."""


def run(command: list[str], folder: Path, stop: Event | None = None, stall_seconds: float = 60.0) -> None:
    launcher.run(command, folder, folder / "log.txt", 1, stop or Event(), lambda: False, stall_seconds)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 30
    while not (path.is_file() and path.read_text()):
        assert time.monotonic() < deadline, f"{path} never came"
        time.sleep(0.02)


def test_stop_ends_a_stubborn_group_and_its_ranks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launcher, "SECONDS_TO_END", 0.5)
    script, pid_file, stop = tmp_path / "script.py", tmp_path / "pid", Event()
    script.write_text(GRANDCHILD)

    def stop_when_up() -> None:
        wait_for(pid_file)
        stop.set()

    threading.Thread(target=stop_when_up).start()
    with pytest.raises(Stopped):
        run([sys.executable, str(script), str(pid_file)], tmp_path, stop)
    deadline = time.monotonic() + 5
    while psutil.pid_exists(int(pid_file.read_text())) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not psutil.pid_exists(int(pid_file.read_text()))


def test_child_that_makes_no_step_is_ended(tmp_path: Path) -> None:
    with pytest.raises(EngineUnavailable, match="made no step for 1 s"):
        run([sys.executable, "-c", "import time; time.sleep(60)"], tmp_path, stall_seconds=1.0)


def test_children_see_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (
        "OVERPROOF_REDIS_URL",
        "REDIS_URL",
        "OVERPROOF_REDIS_PASSWORD",
        "OVERPROOF_API_KEYS",
        "OVERPROOF_OPENAI_API_KEY",
    ):
        monkeypatch.setenv(name, "hunter2")
    run([sys.executable, "-c", "import os; print(sorted(os.environ.items()))"], tmp_path)
    assert "hunter2" not in (tmp_path / "log.txt").read_text()


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        ("import os; os.kill(os.getpid(), 9)", EngineUnavailable, "killed"),
        ("raise SystemExit(3)", EngineUnavailable, "status 3: it left no message"),
        ("raise ValueError('wrong shape')", EngineUnavailable, "ValueError: wrong shape"),
        ("raise MemoryError", EngineUnavailable, "out of memory"),
    ],
)
def test_death_is_explained(tmp_path: Path, code: str, error: type[OverproofError], message: str) -> None:
    with pytest.raises(error, match=message):
        run([sys.executable, "-c", code], tmp_path)


def leave(folder: Path, rank: int, error: Exception) -> None:
    with pytest.raises(type(error)), reported(folder, rank):
        raise error


@pytest.mark.parametrize(
    ("first", "second", "kind", "message"),
    [
        (DatasetError("No rows.", "Sample more."), RuntimeError("peer closed"), DatasetError, "No rows. Sample more."),
        (RuntimeError("peer closed"), DatasetError("No rows."), DatasetError, "No rows."),
        (
            RuntimeError("first"),
            RuntimeError("second"),
            EngineUnavailable,
            "The training broke: RuntimeError: first See",
        ),
        (RuntimeError("CUDA out of memory. Tried"), RuntimeError("x"), EngineUnavailable, "micro_batch_size"),
    ],
)
def test_the_cause_is_told_not_its_echo_on_other_ranks(
    tmp_path: Path, first: Exception, second: Exception, kind: type[OverproofError], message: str
) -> None:
    leave(tmp_path, 1, first)
    leave(tmp_path, 0, second)
    error = explain(tmp_path, 1, "some log")
    assert type(error) is kind
    assert message in str(error)


RESET = "[gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer."
KILLED = "traceback : Signal 9 (SIGKILL) received by PID 7"


@pytest.mark.parametrize(
    ("left", "log", "message"),
    [
        (RuntimeError(RESET), KILLED, "A training process was killed (signal 9)"),
        (RuntimeError(RESET), "", "The training broke: RuntimeError: [gloo"),
        (ValueError("wrong shape"), KILLED, "The training broke: ValueError: wrong shape"),  # what hung on was killed
        (UserError("It diverged."), KILLED, "It diverged."),
    ],
)
def test_killed_process_is_the_cause_and_a_lost_peer_its_echo(
    tmp_path: Path, left: Exception, log: str, message: str
) -> None:
    leave(tmp_path, 0, left)
    assert str(explain(tmp_path, 1, log)).startswith(message)


TORCHRUN = """
E1130 02:53:13 4649 torch/distributed/elastic/multiprocessing/api.py:1002] failed (exitcode: 1) local_rank: 0 (pid: 4742)
  File "/venv/torch/distributed/elastic/multiprocessing/errors/__init__.py", line 367, in wrapper
    raise ChildFailedError(
torch.distributed.elastic.multiprocessing.errors.ChildFailedError:
  exitcode  : 1 (pid: 4742)
  error_file: <N/A>
  traceback : To enable traceback see: https://pytorch.org/docs/stable/elastic/errors.html
"""
"""What torchrun says of a rank that died."""


@pytest.mark.parametrize(
    ("log", "told"),
    [
        ("[rank0]: ValueError: wrong shape\n", "ValueError: wrong shape"),
        (
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for Job\n"
            "    For further information visit https://errors.pydantic.dev/2.11/v/missing\n",
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for Job",
        ),
        ("deepspeed: error: no such option\n", "deepspeed: error: no such option"),
        ("", "it left no message"),
    ],
)
def test_torchruns_summary_is_no_reason(tmp_path: Path, log: str, told: str) -> None:
    assert explain(tmp_path, 1, log + TORCHRUN).message == f"The training ended with status 1: {told}"


@pytest.mark.parametrize(
    "said",
    [
        OSError(errno.ENOSPC, "No space left on device", "/scratch/checkpoint-2/zero_to_fp32.py"),
        RuntimeError("[enforce fail at inline_container.cc:664] . unexpected pos 64 vs 0"),
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_full_disk_is_named_with_what_is_free(tmp_path: Path, said: Exception) -> None:
    leave(tmp_path, 0, said)
    error = explain(tmp_path, 1, TORCHRUN)
    assert type(error) is StorageUnavailable
    assert f"could not write to {tmp_path}, where " in error.message
    assert "bytes are free" in error.message
    assert "Free some space there" in error.remedy


def test_disk_that_takes_no_error_file_is_told_by_one_line_of_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(path: Path, text: str) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(failures, "write_whole", full)
    leave(tmp_path, 0, UserError("The training diverged.", "Lower training.learning_rate."))
    log = capsys.readouterr().err
    error = explain(tmp_path, 1, log + TORCHRUN)
    assert (type(error), str(error)) == (UserError, "The training diverged. Lower training.learning_rate.")
    assert type(explain(tmp_path, 1, log[:50] + "\n")) is EngineUnavailable  # cut short, as the log grew full too


def test_death_without_a_word_on_a_full_disk_is_the_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures, "_free", lambda folder: 4096)
    error = explain(tmp_path, 1, "")
    assert type(error) is StorageUnavailable
    assert "where 4,096 bytes are free: it left no message" in error.message


def test_full_shared_memory_is_no_full_disk(tmp_path: Path) -> None:
    leave(
        tmp_path, 0, RuntimeError("Error while creating shared memory segment /dev/shm/nccl-x: No space left on device")
    )
    assert type(explain(tmp_path, 1, "")) is EngineUnavailable


def test_workers_own_full_disk_is_named_and_other_errors_go_on(tmp_path: Path) -> None:
    with pytest.raises(StorageUnavailable, match="could not write"), full_disk_named(tmp_path):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")
    with pytest.raises(PermissionError), full_disk_named(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_halves_of_error_files_go_with_the_files(tmp_path: Path) -> None:
    for name in ("error-0.json", ".error-0.json.4711.tmp", ".error-1.json.4712.tmp"):
        (tmp_path / name).touch()
    (tmp_path / "job.json").touch()
    forget(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["job.json"]


def test_death_of_an_earlier_attempt_is_not_told_again(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text(KILLED + "\n")
    with pytest.raises(EngineUnavailable, match="status 3: it left no message"):
        run([sys.executable, "-c", "raise SystemExit(3)"], tmp_path)


def make_checkpoint(folder: Path, step: int, *, complete: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    (path / "deep").mkdir(parents=True)
    (path / "deep" / "state.pt").write_text(str(step))
    if complete:
        checkpointing.mark_complete(path)
    return path


def test_only_the_newest_undamaged_checkpoint_counts(tmp_path: Path) -> None:
    steps = [make_checkpoint(tmp_path, step) for step in (5, 10, 15)]
    unfinished = make_checkpoint(tmp_path, 20, complete=False)
    (steps[2] / "deep" / "state.pt").write_text("damaged")
    assert checkpointing.newest_complete(tmp_path) == steps[1]
    assert not unfinished.exists()
    assert not steps[2].exists()
    assert checkpointing.newest_complete(tmp_path / "nowhere") is None


def test_two_newest_and_the_best_checkpoint_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 15, 100):
        make_checkpoint(tmp_path, step)
    make_checkpoint(tmp_path, 105, complete=False)
    checkpointing.prune(tmp_path, [5])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "checkpoint-100", "checkpoint-105", "checkpoint-15", "checkpoint-5",
    ]  # fmt: skip


def test_metrics_are_rewound_to_the_checkpoint(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n{"step": 4, "lo')
    checkpointing.rewind(metrics, 2)
    assert checkpointing.read_lines(metrics) == [{"step": 1}, {"step": 2}]


def test_follower_passes_on_whole_lines_that_are_new(tmp_path: Path) -> None:
    metrics, seen = tmp_path / "metrics.jsonl", []
    line = {
        "step": 2,
        "steps": 9,
        "loss": 0.5,
        "learning_rate": 1e-3,
        "grad_norm": 1.0,
        "tokens": 7,
        "tokens_per_second": 70.0,
    }
    metrics.write_text('{"step": 1}\n')
    follower = Follower(metrics, lambda **values: seen.append(values))
    assert not follower.look()
    with metrics.open("a") as file:
        file.write(json.dumps(line) + "\n" + json.dumps({"step": 2, "val_loss": 0.4}) + '\n{"step": 3, "lo')
    assert follower.look()
    assert not follower.look()
    assert seen == [{"phase": "training", **line, "val_loss": 0.4}]


def test_ranks_count_gpus_as_nvidia_smi_does_unless_somebody_said_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_DEVICE_ORDER", raising=False)
    assert launcher.environment(1)["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    assert launcher.environment(1)["CUDA_DEVICE_ORDER"] == "FASTEST_FIRST"
