"""A step's figures, read when the GPU has made them: while it is at the next step. Read at once, Python would wait for the GPU, and the
GPU then for Python, at every step."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import torch

Figure = Any
"""A scalar tensor, a number, or None: nobody made it."""


class StepFigures(NamedTuple):
    """Of one optimizer step, on their way to the CPU."""

    step: int
    epoch: float | None
    ended: float
    """On the monotonic clock, when Python had launched it all."""
    figures: dict[str, Figure]
    made: torch.cuda.Event | None
    """None: they are on the CPU."""

    def read(self) -> dict[str, float]:
        """Waits until they are there; those that nobody made are left out."""
        if self.made:
            self.made.synchronize()
        return {name: float(one) for name, one in self.figures.items() if one is not None}


def sent(step: int, epoch: float | None, **figures: Figure) -> StepFigures:
    """Let them go; what is on the GPU may be overwritten from now on."""
    copies = {name: _copy(one) if torch.is_tensor(one) else one for name, one in figures.items()}
    event = None
    if any(torch.is_tensor(one) and one.is_cuda for one in figures.values()):
        event = torch.cuda.Event()
        event.record()
    return StepFigures(step, epoch, time.monotonic(), copies, event)


def _copy(figure: torch.Tensor) -> torch.Tensor:
    return figure.detach().to("cpu", non_blocking=True, copy=True)
