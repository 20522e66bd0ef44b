"""One model's graded completions on the test problems, as numbers only: some twelve bytes per completion."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from overproof.reporting.domain.statistics import Floats
from overproof.shared.errors import DatasetError
from overproof.shared.topology import FinishReason, Verdict

Integers = npt.NDArray[np.int64]
Truths = npt.NDArray[np.bool_]

VERDICTS = tuple(Verdict)
"""A verdict's code is its place here."""
CODE = {str(verdict): code for code, verdict in enumerate(VERDICTS)}


class Batch(NamedTuple):
    """Some completions as parallel arrays."""

    problem: Integers
    """Position of the problem among the test problems."""
    sample: Integers
    n_tokens: Integers
    verdict: Integers
    """Codes of VERDICTS."""
    truncated: Truths
    """The engine stopped at max_tokens: the length is a lower bound of what the model would have written."""
    failed: Truths
    """The engine gave no completion: no token statistic counts the row."""


def batch_of(problem: Integers, sample: Integers, n_tokens: Integers, verdicts: list[str], ends: list[str]) -> Batch:
    """A batch from the columns as the tables have them."""
    finish = np.array(ends, dtype=object)
    return Batch(
        problem,
        sample,
        n_tokens,
        np.array([CODE[verdict] for verdict in verdicts], dtype=np.int64),
        np.equal(finish, str(FinishReason.LENGTH)).astype(np.bool_),
        np.equal(finish, str(FinishReason.ERROR)).astype(np.bool_),
    )


@dataclass(frozen=True)
class Outcomes:
    """All completions of one model, and what follows from them problem by problem (arrays of `n_problems`)."""

    n_problems: int
    problem: npt.NDArray[np.int32]
    sample: npt.NDArray[np.int32]
    n_tokens: npt.NDArray[np.int32]
    verdict: npt.NDArray[np.int8]
    truncated: Truths
    failed: Truths

    @classmethod
    def of(cls, n_problems: int, batches: Iterable[Batch]) -> Outcomes:
        """Put batches together in the smallest types that hold them."""
        kinds: tuple[type[np.generic], ...] = (np.int32, np.int32, np.int32, np.int8, np.bool_, np.bool_)
        parts = [[column.astype(kind) for column, kind in zip(batch, kinds, strict=True)] for batch in batches]
        columns: list[Any] = [
            np.concatenate([np.zeros(0, kind), *(part[i] for part in parts)]) for i, kind in enumerate(kinds)
        ]
        return cls(n_problems, *columns)

    def per_problem(self, rows: Truths, values: npt.NDArray[np.int32] | None = None) -> Floats:
        """Sum of `values` (or the count) of these rows for each problem."""
        weights = None if values is None else values[rows].astype(np.float64)
        sums: Floats = np.bincount(self.problem[rows], weights, self.n_problems).astype(np.float64)
        return sums

    @cached_property
    def is_correct(self) -> Truths:
        return np.equal(self.verdict, CODE["correct"])

    @cached_property
    def is_gradable(self) -> Truths:
        """False where the gold answer cannot be read: such rows are no part of any accuracy."""
        return np.not_equal(self.verdict, CODE["ungradable"])

    @cached_property
    def gradable(self) -> Floats:
        """Completions per problem that could be judged."""
        return self.per_problem(self.is_gradable)

    @cached_property
    def correct(self) -> Floats:
        """Correct completions per problem."""
        return self.per_problem(self.is_correct)

    @cached_property
    def share(self) -> Floats:
        """Share of a problem's judged completions that are correct (pass@1 of the problem); 0 where none was judged."""
        return self.correct / np.maximum(self.gradable, 1)

    @cached_property
    def sampled(self) -> Floats:
        """Completions per problem that have a length."""
        return self.per_problem(~self.failed)

    @cached_property
    def tokens(self) -> Floats:
        """Mean tokens of a problem's completions; 0 where there is none."""
        return self.per_problem(~self.failed, self.n_tokens) / np.maximum(self.sampled, 1)

    @cached_property
    def tokens_correct(self) -> Floats:
        """Mean tokens of a problem's correct completions; 0 where there is none."""
        return self.per_problem(self.is_correct, self.n_tokens) / np.maximum(self.correct, 1)


class Subject(NamedTuple):
    """A model under comparison."""

    label: str
    role: str
    round: int
    model: str
    outcomes: Outcomes
    specs: frozenset[str]
    """The `spec` column of its grades: how it was asked, sampled and graded."""


def check_alike(subjects: list[Subject]) -> str:
    """The one spec of all subjects ("" when there is no row at all).

    Raises DatasetError that names two labels when any row was sampled or graded otherwise than the others.
    """
    first = subjects[0]
    for subject in subjects:
        if len(subject.specs) > 1:
            raise DatasetError(
                f"The grades of {subject.label} were not all made alike ({len(subject.specs)} specs).",
                "Evaluate it again with one prompt, one sampling and one grader.",
            )
        if first.specs and subject.specs and subject.specs != first.specs:
            raise DatasetError(
                f"{first.label} and {subject.label} cannot be compared: their prompt, sampling or grading differ "
                f"(spec {min(first.specs)} and {min(subject.specs)}).",
                "Evaluate both with the same prompt, evaluation and grading options.",
            )
        first = first if first.specs else subject
    return min(first.specs, default="")
