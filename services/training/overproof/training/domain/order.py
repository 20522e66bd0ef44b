"""In which order rows are trained on: a function of the seed alone, not of processes, restarts or library versions.

Rows of like length share a batch, so that little is padded. To keep batches from being all short or all long for long,
only rows within a window of WINDOW batches are sorted, and the batches of a window are shuffled.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence

from overproof.training.domain.batches import Batch

WINDOW = 8
"""Global batches that are sorted together: padding falls to a few per cent, and a window is still a random sample of the rows."""


def global_batches(lengths: Sequence[int], rows_per_batch: int, steps: int, seed: int) -> Iterator[list[int]]:
    """Row numbers of each optimizer step. `lengths` are tokens per row.

    Epochs follow each other without a gap: each row comes once before any comes twice, and every batch is full.
    """
    stream = row_stream(len(lengths), seed)
    for first in range(0, steps, WINDOW):
        n_batches = min(WINDOW, steps - first)
        rows = [next(stream) for _ in range(n_batches * rows_per_batch)]
        rows.sort(key=lambda row: (lengths[row], row))
        batches = [rows[start : start + rows_per_batch] for start in range(0, len(rows), rows_per_batch)]
        random.Random(f"{seed}/window/{first}").shuffle(batches)
        yield from batches


def micro_batches(rows: list[int], lengths: Sequence[int], batch: Batch, rank: int) -> list[list[int]]:
    """This process' share of one global batch, one list per forward pass: processes work on like lengths at the same time."""
    by_length = sorted(rows, key=lambda row: (-lengths[row], row))
    chunks = [by_length[start : start + batch.micro] for start in range(0, len(by_length), batch.micro)]
    return chunks[rank :: batch.processes]


def validation_batches(
    lengths: Sequence[int], batch: Batch, rank: int, budget: int | None = None
) -> list[tuple[list[int], bool]]:
    """(row numbers, whether they count) of this process: every process has the same number of passes, as collectives need.

    Each row counts exactly once over all processes; where one has nothing left, it repeats the first batch without counting it.
    With `budget`, a pass is as many rows as fit into that many tokens.
    """
    by_length = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    if budget:
        chunks = first_fit(by_length, lengths, budget)
    else:
        chunks = [by_length[start : start + batch.micro] for start in range(0, len(by_length), batch.micro)]
    passes = -(-len(chunks) // batch.processes)
    mine = [(chunk, True) for chunk in chunks[rank :: batch.processes]]
    return mine + [(chunks[0], False)] * (passes - len(mine))


def first_fit(rows: Sequence[int], lengths: Sequence[int], budget: int) -> list[list[int]]:
    """The rows in lists of at most `budget` tokens, the longest first; a row longer than that has a list of its own."""
    bins: list[list[int]] = []
    room: list[int] = []
    for row in sorted(rows, key=lambda one: (-lengths[one], one)):
        index = next((i for i, free in enumerate(room) if free >= lengths[row]), None)
        if index is None:
            bins.append([row])
            room.append(budget - lengths[row])
        else:
            bins[index].append(row)
            room[index] -= lengths[row]
    return bins


def row_stream(n_rows: int, seed: int) -> Iterator[int]:
    """Row numbers without end: every epoch in an order of its own."""
    epoch = 0
    while True:
        rows = list(range(n_rows))
        random.Random(f"{seed}/epoch/{epoch}").shuffle(rows)
        yield from rows
        epoch += 1


class MicroBatches:
    """The whole training of one process as a batch sampler: `steps` x accumulation lists of row numbers."""

    def __init__(self, lengths: Sequence[int], batch: Batch, steps: int, seed: int, rank: int) -> None:
        self._lengths = lengths
        self._batch = batch
        self._steps = steps
        self._seed = seed
        self._rank = rank

    def __len__(self) -> int:
        return self._steps * self._batch.accumulation

    def __iter__(self) -> Iterator[list[int]]:
        for rows in global_batches(self._lengths, self._batch.rows, self._steps, self._seed):
            yield from micro_batches(rows, self._lengths, self._batch, self._rank)

    def steps(self) -> list[list[int]]:
        """Row numbers of each step, of all processes."""
        return list(global_batches(self._lengths, self._batch.rows, self._steps, self._seed))


def supervised(steps: Sequence[Sequence[int]], lengths: Sequence[int], prompts: Sequence[int]) -> list[int]:
    """Tokens in the loss of each step, over all processes. `steps` are row numbers, `lengths` and `prompts` tokens per row."""
    return [sum(lengths[row] - prompts[row] for row in rows) for rows in steps]


def tokens_after(steps: Sequence[Sequence[int]], lengths: Sequence[int]) -> list[int]:
    """Tokens trained on after each step, over all processes, padding left out; [0] is 0."""
    return [0, *itertools.accumulate(sum(lengths[row] for row in rows) for rows in steps)]
