"""Figures shown elsewhere: event files hold what the journal holds, and a board out of reach ends nothing."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

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
    files.close()
    expected = {"train/loss": [(1, 2.0), (2, 1.5)], "train/grad_norm": [(1, 0.5), (2, 0.25)], "val/loss": [(2, 1.75)]}
    assert scalars(tmp_path) == expected


def test_board_out_of_reach_is_left_out_after_its_first_error(caplog: pytest.LogCaptureFixture) -> None:
    from overproof.training.adapters.boards import Guarded

    class Unreachable:
        calls = 0

        def on_log(self, *_: Any, **__: Any) -> None:
            self.calls += 1
            raise ConnectionError("no route to host")

    board = Unreachable()
    guarded = Guarded("W&B", board)  # type: ignore[arg-type]
    with caplog.at_level(logging.WARNING):
        guarded.on_log(None, None, None, logs={})
        guarded.on_log(None, None, None, logs={})
    assert board.calls == 1
    assert "W&B is left out from here on: no route to host" in caplog.text


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
