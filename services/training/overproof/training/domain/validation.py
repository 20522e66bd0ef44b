"""Which checkpoint is the student, and when to stop early: functions of the validation losses alone, so a resumed training decides alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Validation(NamedTuple):
    """One validation: the loss is the mean over all supervised tokens of the validation rows."""

    step: int
    loss: float


def best(history: Sequence[Validation]) -> Validation | None:
    """The lowest loss, the earliest of equals."""
    return min(history, key=lambda one: (one.loss, one.step), default=None)


def at(history: Sequence[Validation], step: int) -> float | None:
    """The loss after `step`, if it was computed."""
    return next((one.loss for one in history if one.step == step), None)


def is_new_best(history: Sequence[Validation]) -> bool:
    """Whether the last validation is the best so far."""
    return bool(history) and best(history) == history[-1]


def out_of_patience(history: Sequence[Validation], patience: int | None) -> bool:
    """Whether the last `patience` validations brought nothing better."""
    found = best(history)
    if patience is None or found is None:
        return False
    return sum(one.step > found.step for one in history) >= patience
