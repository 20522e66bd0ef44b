"""Models against each other on the same problems.

Accuracy is pass@1: the mean over problems of the share of judged samples that are correct. Every difference is paired:
it is over the problems that both models answered and that could be graded, and both see the same resamples.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from overproof.reporting.domain.outcomes import Integers, Outcomes, Subject
from overproof.reporting.domain.statistics import (
    Bootstrap,
    Estimate,
    Floats,
    Pairs,
    bca,
    sign_test,
    widened,
    wilson,
)
from overproof.shared.topology import Role

SINGLE = 2
"""Columns of one model: tokens, is there a length."""
PAIR = 7
"""Columns of a pair: both shares, can both be judged; both lengths; both lengths where both are right."""


class Slice(NamedTuple):
    """Some of the problems."""

    name: str
    """all, level or type."""
    value: str
    problems: Integers
    """Positions."""


class Contrast(NamedTuple):
    """One model against another on the same problems: first minus second, first over second."""

    first: str
    second: str
    accuracy: Estimate
    """Difference of accuracies."""
    tokens: Estimate
    """Ratio of mean tokens over all completions."""
    same: Estimate
    """Ratio of mean tokens of correct completions, over problems that both solve at least once."""
    pairs: Pairs

    @property
    def change(self) -> str:
        """`better`, `worse`, or `unclear` unless both the interval and the exact test say that there is a difference."""
        if not self.accuracy.excludes_zero or self.pairs.p >= 0.05:
            return "unclear"
        return "better" if self.accuracy.value > 0 else "worse"

    def json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "first": self.first,
            "second": self.second,
            "accuracy_difference": self.accuracy.json(),
            "tokens_ratio": self.tokens.json(),
            "tokens_ratio_same_problems": self.same.json(),
            "won": self.pairs.won,
            "lost": self.pairs.lost,
            "mcnemar_p": self.pairs.p,
            "change": self.change,
        }


class Sliced(NamedTuple):
    """All that is known of one slice."""

    slice: Slice
    accuracy: dict[str, Estimate]
    tokens: dict[str, Estimate]
    contrasts: dict[tuple[str, str], Contrast]


def compare_slice(
    subjects: list[Subject], pairs: list[tuple[str, str]], part: Slice, *, resamples: int, seed: int
) -> Sliced:
    """Accuracies, token means and paired contrasts over the problems of one slice."""
    by_label = {subject.label: subject.outcomes for subject in subjects}
    singles = [_single(outcomes, part.problems) for outcomes in by_label.values()]
    doubles = [_pair(by_label[first], by_label[second], part.problems) for first, second in pairs]
    columns = np.column_stack([*singles, *doubles])
    sums = Bootstrap(len(part.problems), resamples, seed).sums(columns)
    tokens = {}
    for i, label in enumerate(by_label):
        here = slice(i * SINGLE, (i + 1) * SINGLE)
        tokens[label] = bca(columns[:, here], sums[:, here], _first_over_second, int(singles[i][:, 1].sum()))
    contrasts = {}
    for i, (first, second) in enumerate(pairs):
        start = len(singles) * SINGLE + i * PAIR
        here = slice(start, start + PAIR)
        contrasts[first, second] = _contrast(first, second, doubles[i], sums[:, here])
    accuracy = {
        label: wilson(outcomes.share[part.problems][outcomes.gradable[part.problems] > 0])
        for label, outcomes in by_label.items()
    }
    return Sliced(part, accuracy, tokens, contrasts)


def _single(outcomes: Outcomes, problems: Integers) -> Floats:
    return np.column_stack([outcomes.tokens[problems], outcomes.sampled[problems] > 0]).astype(np.float64)


def _pair(first: Outcomes, second: Outcomes, problems: Integers) -> Floats:
    judged = ((first.gradable > 0) & (second.gradable > 0))[problems]
    long = ((first.sampled > 0) & (second.sampled > 0))[problems]
    right = ((first.correct > 0) & (second.correct > 0))[problems]
    return np.column_stack([
        first.share[problems] * judged,
        second.share[problems] * judged,
        judged,
        first.tokens[problems] * long,
        second.tokens[problems] * long,
        first.tokens_correct[problems] * right,
        second.tokens_correct[problems] * right,
    ]).astype(np.float64)  # fmt: skip


def _first_over_second(sums: Floats) -> Floats:
    quotient: Floats = sums[..., 0] / sums[..., 1]
    return quotient


def _difference(sums: Floats) -> Floats:
    difference: Floats = (sums[..., 0] - sums[..., 1]) / sums[..., 2]
    return difference


def _contrast(first: str, second: str, columns: Floats, sums: Floats) -> Contrast:
    judged = columns[:, 2] > 0
    accuracy = bca(columns[:, :3], sums[:, :3], _difference, int(judged.sum()))
    differences = (columns[:, 0] - columns[:, 1])[judged]
    tokens = bca(columns[:, 3:5], sums[:, 3:5], _first_over_second, int((columns[:, 4] > 0).sum()))
    same = bca(columns[:, 5:7], sums[:, 5:7], _first_over_second, int((columns[:, 6] > 0).sum()))
    return Contrast(
        first, second, widened(accuracy, differences), tokens, same, sign_test(columns[:, 0], columns[:, 1])
    )


def common_correct(subjects: list[Subject]) -> Integers:
    """Positions of the problems that every model solves at least once."""
    solved = np.all([subject.outcomes.correct > 0 for subject in subjects], axis=0)
    return np.flatnonzero(solved).astype(np.int64)


def best_of(subjects: list[Subject], baseline: str) -> str | None:
    """The student with the highest accuracy, the shorter one of equals; without students any other model; None alone."""
    others = [subject for subject in subjects if subject.label != baseline]
    students = [subject for subject in others if subject.role == Role.STUDENT]
    if not others:
        return None

    def worth(subject: Subject) -> tuple[float, float]:
        outcomes = subject.outcomes
        judged = outcomes.gradable > 0
        accuracy = float(outcomes.share[judged].mean()) if judged.any() else 0.0
        return accuracy, -float(outcomes.tokens.mean())

    return max(students or others, key=worth).label


def row_of(subject: Subject, sliced: Sliced, baseline: str, common: Integers) -> dict[str, Any]:
    """One row of COMPARISON."""
    part, label = sliced.slice, subject.label
    rows = np.isin(subject.outcomes.problem, part.problems)
    row: dict[str, Any] = {
        "model": label,
        "role": subject.role,
        "round": subject.round,
        "slice": part.name,
        "value": part.value,
        "n": sliced.accuracy[label].n,
        "n_completions": int(rows.sum()),
        **_spread("accuracy", sliced.accuracy[label]),
        **_spread("tokens_mean", sliced.tokens[label]),
        **token_figures(subject.outcomes, rows, np.intersect1d(common, part.problems)),
    }
    return row | _against(sliced.contrasts.get((label, baseline)))


def _spread(name: str, estimate: Estimate) -> dict[str, float | None]:
    return {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high}


def _against(contrast: Contrast | None) -> dict[str, Any]:
    """The paired columns; the baseline itself has none."""
    if contrast is None:
        names = (f"{name}{end}" for name in ("accuracy_difference", "tokens_ratio") for end in ("", "_low", "_high"))
        return dict.fromkeys((*names, "won", "lost", "mcnemar_p"))
    figures = _spread("accuracy_difference", contrast.accuracy) | _spread("tokens_ratio", contrast.tokens)
    known = {name: None if value is None or np.isnan(value) else value for name, value in figures.items()}
    pairs = contrast.pairs
    return known | {"won": pairs.won, "lost": pairs.lost, "mcnemar_p": pairs.p}


def token_figures(outcomes: Outcomes, rows: Any, common: Integers) -> dict[str, float | None]:
    """Lengths of some completions (`rows`, a mask); `common`: problems for the mean that all models can share.

    Lengths of truncated completions are lower bounds, so mean, median and p95 are too where `truncated_share` is not 0.
    """
    lengths = outcomes.n_tokens[rows & ~outcomes.failed]
    correct = outcomes.n_tokens[rows & outcomes.is_correct]
    median, p95 = np.percentile(lengths, [50, 95]) if len(lengths) else (np.nan, np.nan)
    truncated = outcomes.truncated[rows & ~outcomes.failed]
    return {
        "tokens_median": float(median),
        "tokens_p95": float(p95),
        "tokens_correct_mean": float(correct.mean()) if len(correct) else None,
        "tokens_common_correct_mean": float(outcomes.tokens_correct[common].mean()) if len(common) else None,
        "truncated_share": float(truncated.mean()) if len(truncated) else 0.0,
    }
