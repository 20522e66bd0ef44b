"""Which correct completions become training rows.

Selection goes part by part of the problem table: what it holds at once is the correct completions of one part, whatever
the size of the data set. Worked examples of the prompt (`few_shot`) are not part of a training row: they teach the model
at sampling time, and the student is to do without them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from overproof.shared.errors import DatasetError
from overproof.shared.recipe import PromptOptions, SelectionPolicy
from overproof.shared.tables import SELECTED

Integers = npt.NDArray[np.int64]

ROWS_PER_PART = 50_000
"""Of the selected table: some 100 MB of text at 2 kB a row, so that a reader can skip and a writer can stream."""


class Portion(NamedTuple):
    """One part of the problem table with what was made of it."""

    problems: pa.Table
    """problem_id, group_id, problem, level, type, source."""
    correct: pa.Table
    """Correct completions of these problems, of all passes: problem_id, sample, text, n_tokens."""
    n_completions: int
    """All completions, whatever their verdict."""


class Candidates(NamedTuple):
    """Correct completions as parallel arrays."""

    problem: Integers
    """Position of the problem."""
    sample: Integers
    n_tokens: Integers
    content: Integers
    """Equal only for the same text of the same problem."""


def keep(candidates: Candidates, policy: SelectionPolicy, median_of_all: float | None = None) -> Integers:
    """Positions of the kept candidates, by problem, then shortest, then first drawn.

    Completions longer than `policy.max_tokens` go first; of identical texts one stays (the first of that order); then the
    policy; then `max_per_problem`. A median is that of what is left when the policy's turn comes, and a completion of
    exactly median length is kept, so that a problem with one solution is not lost. `median_of_all` is needed by
    `below_median_global` only.
    """
    problem, n_tokens = candidates.problem, candidates.n_tokens
    order = np.lexsort((candidates.sample, n_tokens, problem)).astype(np.int64)
    if policy.max_tokens is not None:
        order = order[n_tokens[order] <= policy.max_tokens]
    order = order[np.sort(np.unique(candidates.content[order], return_index=True)[1])]
    chosen = order[_by_policy(policy, problem[order], n_tokens[order], median_of_all)]
    if policy.max_per_problem is None:
        return chosen
    if policy.policy == "all":
        drawn = chosen[np.lexsort((candidates.sample[chosen], problem[chosen]))]
        chosen = drawn[_rank(problem[drawn]) < policy.max_per_problem]
        return chosen[np.lexsort((candidates.sample[chosen], n_tokens[chosen], problem[chosen]))]
    return chosen[_rank(problem[chosen]) < policy.max_per_problem]


def _by_policy(
    policy: SelectionPolicy, problem: Integers, n_tokens: Integers, median_of_all: float | None
) -> npt.NDArray[np.bool_]:
    """Which to keep of candidates in order of problem and length."""
    match policy.policy:
        case "all":
            return np.ones(len(problem), dtype=np.bool_)
        case "shortest":
            return np.equal(_rank(problem), 0)
        case "shortest_k":
            return np.less(_rank(problem), policy.k)
        case "below_median":
            return np.less_equal(n_tokens, _median_of_problem(problem, n_tokens))
        case "below_median_global":
            if median_of_all is None:
                raise ValueError("below_median_global needs the median of all correct completions")
            return np.less_equal(n_tokens, median_of_all)


def _starts(problem: Integers) -> tuple[Integers, Integers]:
    """(first position, count) of the run of equal values that each position lies in."""
    _, first, counts = np.unique(problem, return_index=True, return_counts=True)
    return np.repeat(first, counts), np.repeat(counts, counts)


def _rank(problem: Integers) -> Integers:
    """0, 1, 2, ... within each run of equal values."""
    return np.arange(len(problem), dtype=np.int64) - _starts(problem)[0]


def _median_of_problem(problem: Integers, n_tokens: Integers) -> npt.NDArray[np.float64]:
    first, count = _starts(problem)
    medians: npt.NDArray[np.float64] = (n_tokens[first + (count - 1) // 2] + n_tokens[first + count // 2]) / 2.0
    return medians


class LengthCounts:
    """A histogram of token counts: all that the median of any number of completions needs."""

    def __init__(self, max_tokens: int | None = None) -> None:
        self._counts = np.zeros(1, dtype=np.int64)
        self._max_tokens = max_tokens

    def add(self, n_tokens: Integers) -> None:
        """Count these; those above `max_tokens` are left out."""
        if self._max_tokens is not None:
            n_tokens = n_tokens[n_tokens <= self._max_tokens]
        more = np.bincount(n_tokens, minlength=len(self._counts))
        more[: len(self._counts)] += self._counts
        self._counts = more

    def median(self) -> float:
        """The mean of the two middle values; NaN when nothing was counted."""
        total = int(self._counts.sum())
        if not total:
            return float("nan")
        below = np.cumsum(self._counts)
        middle = np.searchsorted(below, [(total - 1) // 2, total // 2], side="right")
        return float(middle.mean())


def group_hash(group_ids: Iterable[str], seed: int) -> npt.NDArray[np.uint64]:
    """64 bits per group that depend on nothing but the group and the seed: BLAKE2b."""
    digests = (hashlib.blake2b(f"{seed}/{group}".encode(), digest_size=8).digest() for group in group_ids)
    return np.frombuffer(b"".join(digests), dtype=np.dtype("<u8"))


def in_validation(hashes: npt.NDArray[np.uint64], share: float) -> npt.NDArray[np.bool_]:
    """Whether each group is held out; about `share` of the groups are."""
    result: npt.NDArray[np.bool_] = hashes.astype(np.float64) / 2.0**64 < share
    return result


@dataclass
class Tally:
    """What was seen and kept."""

    problems: int = 0
    problems_solved: int = 0
    problems_kept: int = 0
    completions: int = 0
    completions_correct: int = 0
    rows: int = 0
    rows_train: int = 0
    rows_val: int = 0
    tokens: int = 0
    tokens_correct: int = 0
    groups: list[npt.NDArray[np.uint64]] = field(default_factory=list)

    def notes(self) -> dict[str, int]:
        """The figures by name, with `groups_checked`: how many groups of kept rows were looked up in the test tables."""
        figures = {name: value for name, value in vars(self).items() if name != "groups"}
        checked = len(np.unique(np.concatenate(self.groups))) if self.groups else 0
        return figures | {"groups_checked": checked}

    def check(self) -> None:
        """Raises DatasetError when there is nothing to train on."""
        if not self.rows:
            raise DatasetError(
                f"Nothing was selected: {self.completions_correct} of {self.completions} completions are correct.",
                "Sample more (sampling.max_samples), raise sampling.max_tokens, take a better teacher, "
                "or loosen selection.max_tokens.",
            )
        if not self.rows_train:
            raise DatasetError(
                f"All {self.rows} selected rows fell into the validation split.",
                "Lower selection.val_share, or sample more problems.",
            )


class Selector:
    """Applies one policy portion by portion; `tally` grows as it goes."""

    def __init__(
        self,
        policy: SelectionPolicy,
        prompt: PromptOptions,
        *,
        seed: int,
        test_groups: pa.Array,
        median_of_all: float | None = None,
    ) -> None:
        """`test_groups`: group ids that no row may have. `median_of_all`: for `below_median_global`."""
        self.tally = Tally()
        self._policy = policy
        self._prompt = prompt
        self._seed = seed
        self._test_groups = test_groups
        self._median_of_all = median_of_all

    def select(self, portion: Portion) -> pa.Table:
        """The portion's training rows (table SELECTED).

        Raises DatasetError for a completion of an unknown problem, and for a row whose group is in a test table.
        """
        candidates = _candidates(portion)
        kept = keep(candidates, self._policy, self._median_of_all)
        problems = portion.problems.take(pa.array(candidates.problem[kept]))
        self._refuse_leaks(problems)
        hashes = group_hash(problems["group_id"].to_pylist(), self._seed)
        held_out = in_validation(hashes, self._policy.val_share)
        self._count(portion, candidates, kept, held_out)
        self.tally.groups.append(np.unique(hashes))
        return self._rows(problems, portion.correct.take(pa.array(kept)), held_out)

    def _rows(self, problems: pa.Table, completions: pa.Table, held_out: npt.NDArray[np.bool_]) -> pa.Table:
        n = problems.num_rows
        columns: dict[str, Any] = {
            "problem_id": problems["problem_id"],
            "group_id": problems["group_id"],
            "sample": completions["sample"],
            "prompt": pa.array([self._prompt.render(text) for text in problems["problem"].to_pylist()], pa.string()),
            "system": pa.array([self._prompt.system] * n, pa.string()),
            "completion": completions["text"],
            "n_tokens": completions["n_tokens"],
            "level": problems["level"],
            "type": problems["type"],
            "split": pa.array(np.where(held_out, "val", "train"), pa.string()),
            "policy": pa.array([self._policy.label] * n, pa.string()),
        }
        return pa.table(columns, schema=SELECTED)

    def _refuse_leaks(self, problems: pa.Table) -> None:
        leaked = problems.filter(pc.is_in(problems["group_id"], value_set=self._test_groups))
        if leaked.num_rows:
            first = leaked.slice(0, 1).to_pylist()[0]
            n = len(leaked["problem_id"].unique())
            raise DatasetError(
                f"{n} training problems are also test problems, among them {first['source']} (problem "
                f"{first['problem_id']}, group {first['group_id']}).",
                "Set data.on_overlap: drop, or take them out of data.train.",
            )

    def _count(self, portion: Portion, candidates: Candidates, kept: Integers, held_out: npt.NDArray[np.bool_]) -> None:
        tally = self.tally
        tally.problems += portion.problems.num_rows
        tally.problems_solved += len(np.unique(candidates.problem))
        tally.problems_kept += len(np.unique(candidates.problem[kept]))
        tally.completions += portion.n_completions
        tally.completions_correct += len(candidates.problem)
        tally.rows += len(kept)
        tally.rows_val += int(held_out.sum())
        tally.rows_train += int((~held_out).sum())
        tally.tokens += int(candidates.n_tokens[kept].sum())
        tally.tokens_correct += int(candidates.n_tokens.sum())


def _candidates(portion: Portion) -> Candidates:
    correct = portion.correct
    found = pc.index_in(correct["problem_id"], value_set=portion.problems["problem_id"])
    if found.null_count:
        stray = correct.filter(pc.is_null(found))["problem_id"][0].as_py()
        raise DatasetError(
            f"A completion is of problem {stray}, which is not in its part of the problems.",
            "Give the problems that the completions were made for.",
        )
    problem = _integers(found)
    texts = correct["text"].to_pylist()
    # str hashes differ between processes, but only their equality within this call is used
    content = [hash(pair) for pair in zip(problem.tolist(), texts, strict=True)]
    return Candidates(
        problem, _integers(correct["sample"]), _integers(correct["n_tokens"]), np.array(content, dtype=np.int64)
    )


def _integers(column: pa.ChunkedArray) -> Integers:
    result: Integers = column.to_numpy().astype(np.int64)
    return result


def in_parts(
    tables: Iterable[pa.Table], rows_per_part: int = ROWS_PER_PART
) -> Iterator[tuple[int, Iterator[pa.Table]]]:
    """(part number, its tables) as a stream; a part ends with the table that fills it, and empty tables are left out."""

    def numbered() -> Iterator[tuple[int, pa.Table]]:
        rows = 0
        for table in tables:
            if table.num_rows:
                yield rows // rows_per_part, table
            rows += table.num_rows

    for number, group in groupby(numbered(), key=lambda pair: pair[0]):
        yield number, (table for _, table in group)
