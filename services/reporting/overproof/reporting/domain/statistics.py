"""Intervals and tests, paired by problem. numpy only; the same inputs and seed always give the same numbers.

Sources, by function: `wilson` Wilson (1927) with the effective sample size of Kish (1965); `Bootstrap` the bias-corrected
and accelerated (BCa) interval of Efron (1987), resampling problems, not completions, since the completions of one problem
are not independent; `sign_test` the exact McNemar test (1947), that is the two-sided binomial test on discordant pairs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""From sums over problems, shape (..., columns), to values, shape (...)."""

CONFIDENCE = 0.95
CHUNK_CELLS = 4_000_000
"""Resample counts held at once (32 MB): resamples × problems may be billions."""

NORMAL = NormalDist()
Z = NORMAL.inv_cdf(0.5 + CONFIDENCE / 2)


class Estimate(NamedTuple):
    """A value, its 95 % interval, and how many problems are behind it. NaN: there is no data."""

    value: float
    low: float
    high: float
    n: int

    def __format__(self, spec: str) -> str:
        """`f"{e:.1%}"` → `66.2% [62.0%, 70.2%]`; `no data` when there is none."""
        if math.isnan(self.value):
            return "no data"
        return f"{self.value:{spec}} [{self.low:{spec}}, {self.high:{spec}}]"

    @property
    def excludes_zero(self) -> bool:
        """Whether the whole interval lies on one side of 0; False without data."""
        return self.low > 0 or self.high < 0

    def json(self) -> dict[str, float | int | None]:
        """As a JSON object; NaN becomes null."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        return {name: None if math.isnan(number) else number for name, number in numbers.items()} | {"n": self.n}


def no_data(n: int = 0) -> Estimate:
    """The estimate of something that cannot be computed."""
    return Estimate(math.nan, math.nan, math.nan, n)


def wilson(shares: Floats) -> Estimate:
    """Mean of per-problem shares in [0, 1] with a Wilson score interval.

    With one sample per problem the shares are 0 or 1 and this is Wilson's interval for n trials. With several, n becomes
    p(1-p) / var(mean): more than the problems, less than the completions, by how much samples of one problem agree.
    """
    n = len(shares)
    if not n:
        return no_data()
    p = float(shares.mean())
    spread = float(shares.var())
    effective = n * p * (1 - p) / spread if spread > 0 else float(n)
    centre = (p + Z**2 / (2 * effective)) / (1 + Z**2 / effective)
    half = Z * math.sqrt(p * (1 - p) / effective + Z**2 / (4 * effective**2)) / (1 + Z**2 / effective)
    return Estimate(p, max(0.0, min(p, centre - half)), min(1.0, max(p, centre + half)), n)


class Bootstrap:
    """Resamples of n problems, drawn once and used for every statistic, so that all models see the same ones.

    A statistic is a function of sums over problems of some columns (a mean is sum of values over sum of ones): that covers
    means, differences and ratios, makes a resample one row of a matrix product, and gives leave-one-out values for free.
    """

    def __init__(self, n: int, resamples: int, seed: int) -> None:
        self._n = n
        self._resamples = resamples
        self._seed = seed

    def sums(self, columns: Floats) -> Floats:
        """Sums of each column over each resample: (n, c) → (resamples, c)."""
        return np.concatenate([counts @ columns for counts in self._counts()])

    def _counts(self) -> Iterator[Floats]:
        """How often each problem is in each resample, some resamples at a time."""
        rng = np.random.default_rng(self._seed)
        step = max(1, CHUNK_CELLS // max(1, self._n))
        for start in range(0, self._resamples, step):
            rows = min(step, self._resamples - start)
            drawn = rng.integers(0, self._n, size=(rows, self._n), dtype=np.int64)
            drawn += np.arange(rows, dtype=np.int64)[:, None] * self._n
            flat = np.bincount(drawn.ravel(), minlength=rows * self._n)
            yield flat.reshape(rows, self._n).astype(np.float64)


def bca(columns: Floats, resampled: Floats, statistic: Statistic, n: int) -> Estimate:
    """A statistic with its BCa interval.

    `columns`: per problem, (problems, c). `resampled`: `Bootstrap.sums` of the same columns. `n`: what the estimate is of.
    Values that are not finite (a resample without a single problem that counts) are left out.
    """
    if not n:
        return no_data()
    total = columns.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(statistic(total))
        draws = statistic(resampled)
        left_out = statistic(total - columns)
    draws, left_out = draws[np.isfinite(draws)], left_out[np.isfinite(left_out)]
    if not math.isfinite(value) or not len(draws):
        return no_data(n)
    low, high = np.quantile(draws, _bca_levels(value, draws, left_out))
    return Estimate(value, min(value, float(low)), max(value, float(high)), n)


def _bca_levels(value: float, draws: Floats, left_out: Floats) -> list[float]:
    """Which quantiles of the draws bound the interval; the plain 2.5 and 97.5 % where the correction is undefined."""
    plain = [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]
    below = float((draws < value).mean() + (draws == value).mean() / 2)  # half of the ties: accuracies are coarse
    deviations = left_out.mean() - left_out if len(left_out) else np.zeros(1)
    squares = float((deviations**2).sum())
    if not 0 < below < 1 or squares <= 0:
        return plain
    bias = NORMAL.inv_cdf(below)
    acceleration = float((deviations**3).sum()) / (6 * squares**1.5)
    levels = []
    for level in plain:
        shifted = bias + NORMAL.inv_cdf(level)
        scale = 1 - acceleration * shifted
        if scale <= 0:
            return plain
        levels.append(NORMAL.cdf(bias + shifted / scale))
    return levels


def widened(estimate: Estimate, differences: Floats) -> Estimate:
    """A difference of accuracies whose paired differences are all alike, with an interval that is not a point.

    No resample of identical values differs, which says "certain" of three problems as of three thousand. Up to a share w of
    problems that differ may have gone unseen (Wilson's upper end of 0 of n); each could lie anywhere in [-1, 1].
    """
    if not estimate.n or math.isnan(estimate.value) or float(np.ptp(differences)) > 0:
        return estimate
    unseen = wilson(np.zeros(estimate.n)).high
    value = estimate.value
    return Estimate(value, value - unseen * (1 + value), value + unseen * (1 - value), estimate.n)


class Pairs(NamedTuple):
    """Outcome of a paired test."""

    won: int
    """Problems on which the first is better."""
    lost: int
    p: float


def sign_test(first: Floats, second: Floats) -> Pairs:
    """Exact two-sided test on the problems where two models differ.

    With one sample per problem this is McNemar's exact test; with several, a problem is won by the model with the larger
    share of correct samples. Under the null hypothesis each differing problem falls either way with probability 1/2.
    """
    won, lost = int((first > second).sum()), int((first < second).sum())
    return Pairs(won, lost, binomial_p(min(won, lost), won + lost))


def binomial_p(k: int, n: int) -> float:
    """Two-sided p of k or fewer of n at probability 1/2: min(1, 2 P(X <= k)), in logarithms so that n may be large."""
    if 2 * k >= n:
        return 1.0
    steps = np.arange(1, k + 1, dtype=np.float64)
    terms = np.concatenate([[0.0], np.cumsum(np.log(n - steps + 1) - np.log(steps))]) - n * math.log(2)
    top = float(terms.max())
    return min(1.0, 2 * math.exp(top) * float(np.exp(terms - top).sum()))
