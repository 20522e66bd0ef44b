"""Rows laid end to end instead of padded: which rows share a forward pass, so that every process has as many passes as the others.

A step's rows are spread over `passes` x `processes` bins of like size (longest row first, into the emptiest bin). The number of
passes is the smallest that serves every step of the training, since accumulation cannot change from step to step.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from overproof.shared.errors import RecipeError
from overproof.shared.recipe import TrainingOptions
from overproof.training.domain.order import row_stream


class Fill(NamedTuple):
    """How full the forward passes are."""

    passes: int
    """Forward passes per process and optimizer step."""
    mean_tokens: float
    """Tokens per forward pass."""
    share: float
    """Of the budget that is used."""


def steps_of_rows(lengths: Sequence[int], options: TrainingOptions, steps: int) -> Iterator[list[int]]:
    """Row numbers of each optimizer step, the same on any number of processes: `global_batch_size` rows, or as many as
    `global_batch_tokens` hold (at least one)."""
    stream = row_stream(len(lengths), options.seed)
    if options.global_batch_tokens is None:
        for _ in range(steps):
            yield list(itertools.islice(stream, options.global_batch_size))
        return
    held = next(stream)
    for _ in range(steps):
        rows, tokens = [held], lengths[held]
        while tokens + lengths[held := next(stream)] <= options.global_batch_tokens:
            rows.append(held)
            tokens += lengths[held]
        yield rows


def beyond_budget(steps: Sequence[Sequence[int]], lengths: Sequence[int], options: TrainingOptions) -> list[str]:
    """A warning where steps have more than `global_batch_tokens` tokens: those of a single row that is longer."""
    budget = options.global_batch_tokens
    tokens = [] if budget is None else [n for rows in steps if (n := sum(lengths[row] for row in rows)) > budget]
    if not tokens:
        return []
    return [
        f"{len(tokens)} of {len(steps)} steps have more than training.global_batch_tokens {budget}: a step has one row at least, and theirs "
        f"have {sum(tokens) / len(tokens):.0f} tokens on average."
    ]


def rows_per_step(lengths: Sequence[int], options: TrainingOptions) -> float:
    """Rows that an optimizer step holds, over the first epoch."""
    if options.global_batch_tokens is None:
        return options.global_batch_size
    rows = steps = 0
    for step in steps_of_rows(lengths, options, len(lengths)):
        rows, steps = rows + len(step), steps + 1
        if rows >= len(lengths):
            break
    return rows / max(1, steps)


def spread(rows: Sequence[int], lengths: Sequence[int], bins: int) -> list[list[int]]:
    """The rows in `bins` lists of like many tokens, the fullest first."""
    heap: list[tuple[int, int]] = [(0, index) for index in range(bins)]
    found: list[list[int]] = [[] for _ in range(bins)]
    for row in sorted(rows, key=lambda one: (-lengths[one], one)):
        tokens, index = heapq.heappop(heap)
        found[index].append(row)
        heapq.heappush(heap, (tokens + lengths[row], index))
    return sorted(found, key=lambda one: (-sum(lengths[row] for row in one), one))


def fill_of(steps: Sequence[Sequence[int]], lengths: Sequence[int], options: TrainingOptions) -> Fill:
    """The smallest number of passes at which no pass of any step has more than `micro_batch_tokens` tokens.

    Raises RecipeError when a step has too few rows to give every process one.
    """
    budget, processes = options.micro_batch_tokens or 0, options.processes
    passes = 1
    for rows in steps:
        passes = max(passes, math.ceil(sum(lengths[row] for row in rows) / (budget * processes)))
        while _fullest(rows, lengths, passes * processes) > budget:
            passes += 1
    fewest = min(len(rows) for rows in steps)
    if fewest < passes * processes:
        raise RecipeError(
            f"A step of {fewest} rows cannot be shared by {processes} processes in {passes} passes of {budget} tokens.",
            "Raise training.global_batch_size (or global_batch_tokens), or training.micro_batch_tokens.",
        )
    mean = sum(lengths[row] for rows in steps for row in rows) / (len(steps) * passes * processes)
    return Fill(passes, round(mean, 1), round(mean / budget, 4))


def _fullest(rows: Sequence[int], lengths: Sequence[int], bins: int) -> int:
    return max(sum(lengths[row] for row in one) for one in spread(rows, lengths, bins))


class PackedBatches:
    """The whole training of one process as a batch sampler: `steps` x passes lists of row numbers."""

    def __init__(self, lengths: Sequence[int], options: TrainingOptions, steps: int, rank: int) -> None:
        self._lengths = lengths
        self._processes = options.processes
        self._rank = rank
        self._rows = list(steps_of_rows(lengths, options, steps))
        self.fill = fill_of(self._rows, lengths, options)

    def __len__(self) -> int:
        return len(self._rows) * self.fill.passes

    def __iter__(self) -> Iterator[list[int]]:
        for rows in self._rows:
            yield from spread(rows, self._lengths, self.fill.passes * self._processes)[self._rank :: self._processes]

    def steps(self) -> list[list[int]]:
        """Row numbers of each step, of all processes."""
        return self._rows
