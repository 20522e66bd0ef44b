"""An evaluation made elsewhere, in the original workflow's JSON: `overall.accuracy/correct/total`, shown beside a run's own table."""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path
from typing import NamedTuple

from overproof.cli.errors import CliError

Z95 = 1.959964
REMEDY = 'Give {"overall": {"accuracy": ..., "correct": ..., "total": ...}}.'
ROUNDING = 0.006
"""An accuracy that differs from correct / total by more is not the same count (percentages are often rounded to whole points)."""


class Imported(NamedTuple):
    """Counts of one evaluation, with Wilson's 95 % interval (Wilson 1927) of the accuracy."""

    name: str
    correct: int
    total: int
    accuracy: float
    low: float
    high: float
    average_tokens: float | None

    def line(self) -> str:
        """One row of text. It is not paired with the run's problems, so no difference is claimed."""
        tokens = "" if self.average_tokens is None else f"   {self.average_tokens:,.0f} tokens"
        interval = f"[{100 * self.low:.1f}, {100 * self.high:.1f}]"
        return (
            f" {self.name}   {self.accuracy:.1%}   {interval}   {self.correct} of {self.total}{tokens}   (not paired)"
        )


def read(path: Path) -> Imported:
    """Raises CliError when the file is no such evaluation, or its numbers contradict each other."""
    try:
        overall = json.loads(path.read_text(encoding="utf-8"))["overall"]
        correct, total = overall["correct"], overall["total"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CliError(f"{path} is no evaluation: {type(error).__name__} {error}.", REMEDY) from None
    if not (isinstance(correct, int) and isinstance(total, int) and 0 <= correct <= total and total > 0):
        raise CliError(f"{path}: correct {correct!r} of total {total!r} cannot be.", REMEDY)
    accuracy = correct / total
    said = overall.get("accuracy", accuracy)
    if not isinstance(said, int | float) or min(abs(said - accuracy), abs(said / 100 - accuracy)) > ROUNDING:
        raise CliError(f"{path}: accuracy {said!r} is not correct / total ({accuracy:.4f}).", "Mend the file.")
    low, high = _wilson(correct, total)
    return Imported(path.stem, correct, total, accuracy, low, high, overall.get("average_tokens"))


def _wilson(correct: int, total: int) -> tuple[float, float]:
    share, square = correct / total, Z95**2
    centre = (share + square / (2 * total)) / (1 + square / total)
    half = Z95 / (1 + square / total) * sqrt(share * (1 - share) / total + square / (4 * total**2))
    return max(0.0, centre - half), min(1.0, centre + half)
