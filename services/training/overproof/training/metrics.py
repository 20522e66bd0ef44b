"""From the lines that rank 0 writes to what the worker shows: live progress and Prometheus."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge

from overproof.training.checkpointing import read_lines

LOSS = Gauge("overproof_training_loss", "Last loss: mean over the supervised tokens.", ["split"])
LEARNING_RATE = Gauge("overproof_training_learning_rate", "Learning rate of the last step.")
GRAD_NORM = Gauge("overproof_training_grad_norm", "Norm of the gradient before clipping.")
TOKENS_PER_SECOND = Gauge("overproof_training_tokens_per_second", "Trained tokens per second, all processes together.")
MEMORY = Gauge("overproof_training_memory_bytes", "Most device memory that one process held.")
MFU = Gauge("overproof_training_mfu", "Share of the device's peak arithmetic that the model's own operations take.")
STEPS = Counter("overproof_training_steps_total", "Optimizer steps made.")
TOKENS = Counter("overproof_training_tokens_total", "Tokens that went through the model in training.")

SHOWN = (
    "step",
    "steps",
    "epoch",
    "loss",
    "learning_rate",
    "grad_norm",
    "tokens",
    "tokens_per_second",
    "mfu",
    "memory_bytes",
    "eta_seconds",
)


PROBE_ACCURACY = Gauge("overproof_training_probe_accuracy", "Share of validation problems that the last probe solved.")
PROBE_TOKENS = Gauge("overproof_training_probe_tokens_mean", "Mean tokens per solution of the last probe.")
PROBE_TRUNCATED = Gauge(
    "overproof_training_probe_truncated_share", "Share of the last probe's solutions that had no end."
)


GAUGES = (LEARNING_RATE, GRAD_NORM, TOKENS_PER_SECOND, MEMORY, MFU, PROBE_ACCURACY, PROBE_TOKENS, PROBE_TRUNCATED)
NO_VALUE = float("nan")
"""What Prometheus takes for a figure that is not there: a gauge without labels cannot be taken back."""


class Follower:
    """Reads new lines of `metrics.jsonl` while it grows."""

    def __init__(self, path: Path, progress: Callable[..., None]) -> None:
        self._path = path
        self._progress = progress
        self._offset = 0
        self._shown: dict[str, Any] = {}
        self._step, self._tokens = 0, 0  # of the last line, and in all steps up to it
        self.begin()

    def begin(self) -> None:
        """Follow from the file's present end; the gauges no longer show the training before this one."""
        LOSS.clear()
        for gauge in GAUGES:
            gauge.set(NO_VALUE)
        self._offset = self._path.stat().st_size if self._path.is_file() else 0

    def look(self) -> bool:
        """Pass on what is new; returns whether anything was."""
        lines = self._new_lines()
        for line in lines:
            self._show(line)
        if lines:
            self._progress(phase="training", **self._shown)
        return bool(lines)

    def show(self, **values: Any) -> None:
        """Show more beside what the lines say."""
        self._shown |= values
        self._progress(phase="training", **self._shown)

    def _new_lines(self) -> list[dict[str, Any]]:
        if not self._path.is_file():
            return []
        self._offset = min(
            self._offset, self._path.stat().st_size
        )  # the nodes were started again, and the file rewound
        with self._path.open("rb") as file:
            file.seek(self._offset)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._offset += len(whole) + len(newline)
        return [json.loads(line) for line in whole.splitlines() if line]

    def _show(self, line: dict[str, Any]) -> None:
        if "val_loss" in line:
            self._shown["val_loss"] = line["val_loss"]
            LOSS.labels("val").set(line["val_loss"])
            return
        if "probe_n" in line:
            self._shown |= {name: value for name, value in line.items() if name.startswith("probe_")}
            PROBE_TOKENS.set(line["probe_tokens_mean"])
            PROBE_TRUNCATED.set(line["probe_truncated_share"])
            return
        self._shown |= {name: line[name] for name in SHOWN if name in line}
        LOSS.labels("train").set(line["loss"])
        LEARNING_RATE.set(line["learning_rate"])
        TOKENS_PER_SECOND.set(line["tokens_per_second"])
        for name, gauge in (("grad_norm", GRAD_NORM), ("memory_bytes", MEMORY), ("mfu", MFU)):
            gauge.set(line.get(name, NO_VALUE))
        STEPS.inc()
        if line["step"] != self._step + 1:  # an attempt goes on behind steps that another one made, or makes some again
            self._tokens = self._tokens_before(line["step"])
        TOKENS.inc(line["tokens"] - self._tokens)
        self._step, self._tokens = line["step"], line["tokens"]

    def _tokens_before(self, step: int) -> int:
        return max(
            (one["tokens"] for one in read_lines(self._path) if "tokens" in one and one["step"] < step), default=0
        )


def speed(lines: list[dict[str, Any]]) -> dict[str, float]:
    """Of the whole training, for its receipt: tokens per second and MFU over the steps (the first, which warms up, left out
    where there are others), and the most memory that one process held."""
    steps = [line for line in lines if "tokens_per_second" in line]
    steady = steps[1:] or steps
    found = {
        name: _harmonic([line[name] for line in steady if line.get(name)]) for name in ("tokens_per_second", "mfu")
    }
    found["max_memory_bytes"] = max((line.get("memory_bytes", 0) for line in steps), default=0)
    return {name: value for name, value in found.items() if value}


def _harmonic(rates: list[float]) -> float:
    """The mean rate of steps that are about equally large."""
    return round(len(rates) / sum(1 / rate for rate in rates), 4) if rates else 0.0
