"""What adaptive sampling saved: what was drawn, against a fixed number of completions for every problem.

A completion's seed follows from the problem and its number, so a fixed number k would have drawn the completions 0 .. k-1
that are here, and those that nobody drew: only their tokens are estimated, by the problem's own mean. How many problems
k completions solve is known, since a problem without a correct completion is sampled to the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from overproof.reporting.domain import wording
from overproof.reporting.domain.outcomes import Integers
from overproof.reporting.domain.statistics import Floats
from overproof.shared.topology import Verdict

Row = dict[str, Any]


class Draw(NamedTuple):
    """One completion of a problem."""

    n_tokens: int
    is_correct: bool


@dataclass
class Pass:
    """One sampling pass over all problems of a round."""

    problems: int = 0
    """That got a completion in it."""
    completions: int = 0
    tokens: int = 0
    correct: int = 0
    solved: int = 0
    """Problems that have a correct completion after it, of all."""


class Fixed(NamedTuple):
    """What k completions for every problem come to."""

    k: int
    completions: int
    tokens: float
    """Partly estimated."""
    solved: int
    enough: int
    """Problems with `enough` correct completions."""


@dataclass
class Round:
    """One round's sampling; problems are added one by one."""

    number: int
    enough: int
    max_samples: int
    quota: str = "uniform"
    passes: list[Pass] = field(default_factory=list)
    problems: int = 0
    first: Integers = field(init=False)
    """By number of completions: problems whose first correct one is the last of these."""
    enoughth: Integers = field(init=False)
    """As `first`, for the `enough`-th correct one."""
    tokens_of_fixed: Floats = field(init=False)
    """By k: tokens of k completions for every problem."""

    def __post_init__(self) -> None:
        self.first = np.zeros(self.max_samples + 1, dtype=np.int64)
        self.enoughth = np.zeros(self.max_samples + 1, dtype=np.int64)
        self.tokens_of_fixed = np.zeros(self.max_samples + 1)

    def add(self, draws: Sequence[Draw]) -> None:
        """A problem with its completions, in the order of their numbers, over all passes."""
        self.problems += 1
        if not draws:
            return
        correct = [place for place, draw in enumerate(draws, 1) if draw.is_correct]
        if correct:
            self.first[correct[0]] += 1
        if len(correct) >= self.enough:
            self.enoughth[correct[self.enough - 1]] += 1
        drawn = np.array([draw.n_tokens for draw in draws], dtype=np.float64)
        rest = np.full(self.max_samples - len(draws), drawn.mean())
        self.tokens_of_fixed[1:] += np.cumsum(np.concatenate([drawn, rest]))

    @property
    def completions(self) -> int:
        return sum(one.completions for one in self.passes)

    @property
    def tokens(self) -> int:
        return sum(one.tokens for one in self.passes)

    @property
    def solved(self) -> int:
        return int(self.first.sum())

    def fixed(self, k: int) -> Fixed:
        """k completions for every problem."""
        solved, enough = int(self.first[: k + 1].sum()), int(self.enoughth[: k + 1].sum())
        return Fixed(k, k * self.problems, float(self.tokens_of_fixed[k]), solved, enough)

    @property
    def covered(self) -> int:
        """Problems that have what sampling was to reach: `enough` correct completions; by `difficulty`, which wants fewer of easy ones, one."""
        return int(self._reached.sum())

    @property
    def same_coverage(self) -> Fixed:
        """The smallest fixed number that covers as many problems."""
        return self.fixed(max(1, int(np.searchsorted(np.cumsum(self._reached), self.covered))))

    @property
    def _reached(self) -> Integers:
        return self.enoughth if self.quota == "uniform" else self.first


def rows(found: Sequence[Round]) -> list[Row]:
    """For each round what was drawn, then every fixed number of completions."""
    made: list[Row] = []
    for one in found:
        head: Row = {"round": one.number, "problems": one.problems}
        drawn: Row = {"way": "adaptive", "k": None, "completions": one.completions, "tokens": one.tokens}
        counts = {"solved": one.solved, "with_enough": int(one.enoughth.sum())}
        made.append(head | drawn | counts)
        for k in range(1, one.max_samples + 1):
            fixed = one.fixed(k)
            figures: Row = {"way": "fixed", "k": k, "completions": fixed.completions, "tokens": round(fixed.tokens)}
            made.append(head | figures | {"solved": fixed.solved, "with_enough": fixed.enough})
    return made


def summary(found: Sequence[Round]) -> list[Row]:
    """For `report.json`: per round the passes, what was drawn, and the two fixed numbers that it is measured against."""
    return [
        {
            "round": one.number,
            "problems": one.problems,
            "solved": one.solved,
            "enough": int(one.enoughth.sum()),
            "completions": one.completions,
            "tokens": one.tokens,
            "passes": [vars(each) for each in one.passes],
            "same_coverage": one.same_coverage._asdict(),
            "max_samples": one.fixed(one.max_samples)._asdict(),
        }
        for one in found
    ]


def answer(found: Sequence[Round]) -> str:
    """One sentence per round."""
    return " ".join(map(_sentence, found)) or "Every problem got the same number of completions: nothing was adaptive."


def _sentence(one: Round) -> str:
    fixed = one.same_coverage
    n = one.enough if one.quota == "uniform" else 1
    return (
        f"Round {one.number} drew {wording.plural(one.completions, 'completion')} ({wording.count(one.tokens)} tokens), and {one.covered:,} of "
        f"{wording.plural(one.problems, 'problem')} have at least {n} correct. A fixed number reaches as many with {fixed.k} per problem: "
        f"{_saved(one.completions, fixed.completions)} completions and {_saved(one.tokens, fixed.tokens)} tokens than with those "
        f"{wording.count(fixed.completions)} and about {wording.count(fixed.tokens)}."
    )


def _saved(used: float, fixed: float) -> str:
    if not fixed or used == fixed:
        return "as many"
    return f"{abs(1 - used / fixed):.0%} {'fewer' if used < fixed else 'more'}"


def draws_of(rows: Sequence[Mapping[str, Any]]) -> list[Draw]:
    """Reads sample, n_tokens, verdict of one problem's completions."""
    ordered = sorted(rows, key=lambda row: row["sample"])
    return [Draw(row["n_tokens"], row["verdict"] == Verdict.CORRECT) for row in ordered]
