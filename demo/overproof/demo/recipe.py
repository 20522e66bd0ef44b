"""How the two demo models are made: sizes, style mix, schedule and seeds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from overproof.demo.problems import Style

Role = Literal["teacher", "student"]

# Engines want known head sizes (32 is the smallest they share), and two key-value heads allow tensor parallel 2.
HEAD_SIZE = 32
HEADS = 4
KEY_VALUE_HEADS = 2
POSITIONS = 1024
WARMUP_STEPS = 50


@dataclass(frozen=True)
class Recipe:
    """Everything that makes a model, besides the code and the machine."""

    role: Role
    layers: int
    feed_forward: int
    styles: Mapping[Style, float]
    """Share of each style among the solutions it learns from."""
    steps: int
    drill_steps: int
    """The share of drill batches falls from one to zero over so many steps."""
    hold: float
    """Share of the steps before the learning rate falls, linearly to zero; 1 keeps it up to the end."""
    seed: int
    """Of the weights, the solutions and the order of batches; drills use the next one."""
    rows: int = 128
    """Rows per batch."""
    muon_rate: float = 0.02
    """Learning rate of the matrices in the layers."""
    adamw_rate: float = 3e-3
    """Learning rate of embeddings and norms."""

    def rate_factor(self, step: int) -> float:
        """What the learning rates are multiplied with at `step`, counted from zero."""
        warm = min(1.0, (step + 1) / WARMUP_STEPS)
        falling = (self.steps - step) / max(1.0, (1 - self.hold) * self.steps)
        return warm * (1.0 if self.hold >= 1 else min(1.0, falling))

    def drill_share(self, step: int) -> float:
        """Probability that the batch of `step`, counted from zero, is a drill."""
        return max(0.0, 1 - step / self.drill_steps) if self.drill_steps else 0.0


# of three seeds each, these did best on the val split: the teacher by accuracy, the student by what it gained when
# trained on the teacher's shortest correct solutions
RECIPES: Mapping[Role, Recipe] = {
    "teacher": Recipe(
        role="teacher",
        layers=3,
        feed_forward=256,
        styles={Style.TERSE: 0.35, Style.WORDED: 0.3, Style.VERBOSE: 0.35},
        steps=1200,
        drill_steps=1200,
        hold=0.3,
        seed=2,
    ),
    "student": Recipe(
        role="student",
        layers=2,
        feed_forward=192,
        styles={Style.TERSE: 0.1, Style.WORDED: 0.15, Style.VERBOSE: 0.75},
        steps=600,
        drill_steps=600,
        hold=1.0,
        seed=3,
    ),
}
