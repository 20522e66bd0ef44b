"""What the student writes while it is trained: on which problems, when, and which step's weights that speaks for.

Pure functions of the recipe and of the verdicts, so that a resumed training probes and chooses alike.
"""

from __future__ import annotations

import math
import random
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from overproof.shared.recipe import ProbeOptions
from overproof.shared.topology import FinishReason, Verdict

Solution = dict[str, Any]
"""problem_id, text, n_tokens (the end token counted), finish_reason; once judged, verdict."""


def chosen_problems(problem_ids: Iterable[str], options: ProbeOptions, seed: int) -> list[str]:
    """The probe's problems out of those held out for validation: the same for the whole training, in a fixed order."""
    ids = sorted(set(problem_ids))
    random.Random(f"{seed}/probe").shuffle(ids)
    return ids[: options.problems]


def is_due(step: int, steps: int, options: ProbeOptions) -> bool:
    """Whether to probe after `step` of `steps`."""
    return step % options.every_steps == 0 or step == steps


class Writing(NamedTuple):
    """How the solutions of one probe look, before anybody judges them."""

    n: int
    tokens_mean: float
    tokens_error: float
    """Standard error of the mean; 0 for a single solution."""
    truncated_share: float

    def line(self) -> dict[str, float]:
        """For `metrics.jsonl` and the display."""
        return {
            "probe_n": self.n,
            "probe_tokens_mean": round(self.tokens_mean, 2),
            "probe_tokens_error": round(self.tokens_error, 3),
            "probe_truncated_share": round(self.truncated_share, 4),
        }


def writing_of(solutions: Sequence[Solution]) -> Writing:
    """Counts over a probe's solutions (at least one)."""
    n = len(solutions)
    tokens = [one["n_tokens"] for one in solutions]
    truncated = sum(one["finish_reason"] == FinishReason.LENGTH for one in solutions)
    error = statistics.stdev(tokens) / math.sqrt(n) if n > 1 else 0.0
    return Writing(n, statistics.fmean(tokens), error, truncated / n)


class Judged(NamedTuple):
    """One probe with its verdicts."""

    step: int
    n: int
    """Solutions whose gold answer can be read: the others say nothing of the student."""
    correct: int
    tokens_mean: float
    verdicts: dict[str, int]

    @property
    def accuracy(self) -> float | None:
        """Share of correct solutions; None when no gold answer can be read."""
        return self.correct / self.n if self.n else None

    def line(self) -> dict[str, Any]:
        """For `metrics.jsonl` and the display."""
        found: dict[str, Any] = {"probe_judged": self.n, "probe_correct": self.correct, "probe_verdicts": self.verdicts}
        return found if self.accuracy is None else found | {"probe_accuracy": round(self.accuracy, 4)}


def judged(step: int, solutions: Sequence[Solution], verdicts: Sequence[str]) -> Judged:
    """A probe's solutions and their verdicts, in the same order."""
    counts = Counter(str(verdict) for verdict in verdicts)
    n = len(solutions) - counts[Verdict.UNGRADABLE]
    mean = writing_of(solutions).tokens_mean
    return Judged(step, n, counts[Verdict.CORRECT], mean, dict(sorted(counts.items())))


def best(history: Iterable[Judged]) -> Judged | None:
    """Most correct solutions; of equals the shorter-spoken, of those the earliest. Step 0 is the base, not a student."""
    students = [one for one in history if one.step and one.n]
    return min(students, key=lambda one: (-one.correct / one.n, one.tokens_mean, one.step), default=None)
