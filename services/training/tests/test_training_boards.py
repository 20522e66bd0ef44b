"""Figures shown elsewhere: event files hold what the journal holds, and a board out of reach ends nothing."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from pydantic import ValidationError

from overproof.shared.recipe import ProbeOptions
from overproof.training.metrics import speed
from overproof.training.settings import TrainingSettings


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """As TensorBoard reads them: name → (step, value), in the order of the files."""
    from tensorboardX.proto.event_pb2 import Event

    found: dict[str, list[tuple[int, float]]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*")):
        data, at = file.read_bytes(), 0
        while at < len(data):
            size = int.from_bytes(data[at : at + 8], "little")
            event = Event.FromString(data[at + 12 : at + 12 + size])
            at += 16 + size
            for value in event.summary.value:
                found.setdefault(value.tag, []).append((event.step, round(value.simple_value, 4)))
    return found


def test_event_files_hold_known_figures_by_step(tmp_path: Path) -> None:
    from overproof.training.adapters.boards import EventFiles

    files = EventFiles(tmp_path)
    files.show(1, {"loss": 2.0, "grad_norm": 0.5, "seconds": 9.0})
    files.show(2, {"loss": 1.5, "grad_norm": 0.25})
    files.show(2, {"val_loss": 1.75})
    expected = {"train/loss": [(1, 2.0), (2, 1.5)], "train/grad_norm": [(1, 0.5), (2, 0.25)], "val/loss": [(2, 1.75)]}
    assert scalars(tmp_path) == expected


def test_event_files_that_cannot_be_written_end_no_training(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    from overproof.training.adapters.boards import EventFiles

    (tmp_path / "file").touch()
    files = EventFiles(tmp_path / "file" / "tensorboard")
    with caplog.at_level(logging.WARNING):
        files.show(1, {"loss": 2.0})
        files.show(2, {"loss": 1.5})
    assert caplog.text.count("TensorBoard is left out from here on") == 1


class Board:
    """Takes what it is told, or is out of reach."""

    def __init__(self, *, reachable: bool = True) -> None:
        self.calls: list[dict[str, float]] = []
        self._reachable = reachable

    def on_train_begin(self, *_: Any, **__: Any) -> None: ...

    def on_log(self, *_: Any, logs: dict[str, float], **__: Any) -> None:
        self.calls.append(logs)
        if not self._reachable:
            raise ConnectionError("no route to host")


def guarded(board: Board, run: Path) -> Any:
    from overproof.training.adapters.boards import Guarded

    return Guarded("W&B", board, run, lambda: "run-17")  # type: ignore[arg-type]


def test_board_out_of_reach_is_left_out_after_its_first_error(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    board = Board(reachable=False)
    one = guarded(board, tmp_path / "id")
    with caplog.at_level(logging.WARNING):
        one.on_log(None, None, None, logs={})
        one.on_log(None, None, None, logs={})
    assert len(board.calls) == 1
    assert "W&B is left out from here on: no route to host" in caplog.text


def test_next_attempt_goes_on_in_the_boards_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from overproof.training.adapters import boards

    monkeypatch.setenv("MLFLOW_RUN_ID", "theirs")
    monkeypatch.setenv("WANDB_RUN_ID", "to be undone")
    monkeypatch.delenv("WANDB_RUN_ID")
    job = SimpleNamespace(scratch=tmp_path)
    first = boards._known(job, "WANDB_RUN_ID")  # type: ignore[arg-type]
    assert "WANDB_RUN_ID" not in os.environ
    for rank_0 in (False, True):
        assert not first.exists()
        guarded(Board(), first).on_train_begin(None, SimpleNamespace(is_world_process_zero=rank_0), None)
    for name in ("WANDB_RUN_ID", "MLFLOW_RUN_ID"):
        boards._known(job, name).write_text("run-17")  # type: ignore[arg-type]
        boards._known(job, name)  # type: ignore[arg-type]
    assert (os.environ["WANDB_RUN_ID"], os.environ["MLFLOW_RUN_ID"]) == ("run-17", "theirs")


def test_boards_are_told_of_probes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from overproof.training.adapters.probe import Probe

    job = SimpleNamespace(
        probe=tmp_path / "probe.json", context=None, probe_of=lambda step: tmp_path / "probes" / f"{step}.json"
    )
    job.probe.write_text(json.dumps({"problems": [{"problem_id": "p", "prompt": [1, 2]}], "stops": [9]}))
    journal = SimpleNamespace(append=lambda state, figures: lines.append(figures), skip=lambda seconds: None)
    lines: list[dict[str, float]] = []
    board = Board()
    probe = Probe(job, ProbeOptions(), None, journal, [guarded(board, tmp_path / "id")])  # type: ignore[arg-type]
    monkeypatch.setattr(probe, "_written", lambda args, model: [[5, 6, 9]])
    probe.__dict__["_chat"] = SimpleNamespace(text=str)
    probe.on_train_begin(None, SimpleNamespace(global_step=0, is_world_process_zero=True), None)
    assert board.calls == lines
    assert (lines[0]["probe_tokens_mean"], lines[0]["probe_truncated_share"]) == (3, 0)


def test_board_that_is_not_installed_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    from overproof.training import settings

    monkeypatch.setenv("OVERPROOF_TRAINING_REPORT_TO", '["mlflow"]')
    monkeypatch.setattr(settings, "find_spec", lambda name: None)
    with pytest.raises(ValidationError, match="mlflow is not installed: pip install mlflow"):
        TrainingSettings()


def test_receipt_tells_the_steady_speed_and_the_most_memory() -> None:
    lines = [
        {"step": 1, "tokens_per_second": 1.0, "mfu": 0.01, "memory_bytes": 5},
        {"step": 2, "tokens_per_second": 100.0, "mfu": 0.3, "memory_bytes": 7},
        {"step": 2, "val_loss": 1.0},
        {"step": 3, "tokens_per_second": 50.0, "mfu": 0.15, "memory_bytes": 6},
    ]
    assert speed(lines) == {"tokens_per_second": 66.6667, "mfu": 0.2, "max_memory_bytes": 7}
    assert speed([{"step": 1, "tokens_per_second": 4.0}]) == {"tokens_per_second": 4.0}
