"""Known values, coverage by simulation, and inputs at the edge."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from overproof.reporting.domain.statistics import (
    Bootstrap,
    Estimate,
    bca,
    binomial_p,
    no_data,
    sign_test,
    widened,
    wilson,
)


def mean(sums):
    return sums[..., 0] / sums[..., 1]


def ones_beside(values) -> np.ndarray:
    return np.column_stack([values, np.ones(len(values))]).astype(float)


def interval(values, resamples: int = 1000, seed: int = 0) -> Estimate:
    columns = ones_beside(values)
    return bca(columns, Bootstrap(len(values), resamples, seed).sums(columns), mean, len(values))


# by hand: 2 * sum C(n, i) / 2^n over i <= k
MCNEMAR = [
    (0, 0, Fraction(1)),
    (0, 1, Fraction(1)),
    (0, 5, Fraction(2, 32)),
    (1, 6, Fraction(2 * (1 + 6), 64)),
    (2, 10, Fraction(2 * (1 + 10 + 45), 1024)),
    (5, 10, Fraction(1)),
    (4, 9, Fraction(1)),
    (0, 20, Fraction(2, 2**20)),
]


@pytest.mark.parametrize(("k", "n", "p"), MCNEMAR)
def test_exact_mcnemar_by_hand(k: int, n: int, p: Fraction) -> None:
    assert binomial_p(k, n) == pytest.approx(float(p), rel=1e-12)


# scipy 1.17: binomtest(k, n).pvalue
MANY_PAIRS = [
    (25, 77, 0.002799053877277624),
    (480, 1000, 0.2174482932041415),
    (4_900, 10_000, 0.04658552770494645),
    (499_000, 1_000_000, 0.0456082998653896),
]


@pytest.mark.parametrize(("k", "n", "p"), MANY_PAIRS)
def test_exact_mcnemar_agrees_with_scipy_also_for_many_pairs(k: int, n: int, p: float) -> None:
    assert binomial_p(k, n) == pytest.approx(p, rel=1e-7)


def test_sign_test_counts_problems_not_samples() -> None:
    pairs = sign_test(np.array([1.0, 0.75, 0.5, 0.0, 1.0]), np.array([0.0, 0.5, 0.5, 0.25, 1.0]))
    assert (pairs.won, pairs.lost, pairs.p) == (2, 1, 1.0)


# scipy 1.17: binomtest(k, n).proportion_ci(method="wilson")
WILSON = [
    (0, 10, 0.0, 0.27753279986288926),
    (3, 10, 0.10779126740630102, 0.6032218525388546),
    (10, 10, 0.7224672001371109, 1.0),
    (263, 500, 0.4822016483694956, 0.5694018859265038),
    (1, 1, 0.20654931437723745, 1.0),
]


@pytest.mark.parametrize(("k", "n", "low", "high"), WILSON)
def test_wilson_agrees_with_scipy_for_one_sample(k: int, n: int, low: float, high: float) -> None:
    assert wilson(np.array([1.0] * k + [0.0] * (n - k))) == pytest.approx((k / n, low, high, n), abs=1e-12)


def test_wilson_of_several_samples_lies_between_problems_and_completions() -> None:
    rng = np.random.default_rng(0)
    chances = rng.beta(1, 1, 400)
    shares = rng.binomial(8, chances) / 8
    one_each = wilson((rng.random(400) < shares).astype(float))
    several = wilson(shares)
    all_apart = wilson((rng.random(3200) < shares.mean()).astype(float))
    assert all_apart.high - all_apart.low < several.high - several.low < one_each.high - one_each.low


def test_wilson_of_nothing_is_no_data() -> None:
    assert math.isnan(wilson(np.array([])).value)
    assert f"{wilson(np.array([])):.1%}" == "no data"


def test_all_correct_is_not_certainty() -> None:
    estimate = wilson(np.ones(20))
    assert estimate.value == estimate.high == 1.0
    assert 0.8 < estimate.low < 0.9


def test_bootstrap_is_seeded_and_chunks_do_not_change_it(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).exponential(size=50)
    whole = interval(values)
    assert whole == interval(values) != interval(values, seed=1)
    monkeypatch.setattr("overproof.reporting.domain.statistics.CHUNK_CELLS", 50 * 7)
    assert interval(values) == whole


def test_bootstrap_agrees_with_scipys_bca() -> None:
    values = np.random.default_rng(2).exponential(size=80)
    mine = interval(values, resamples=20_000)
    # scipy 1.17: bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=default_rng(0))
    assert (mine.low, mine.high) == pytest.approx((0.81581, 1.22576), rel=0.01)


@pytest.mark.parametrize("kind", ["skewed mean", "paired difference"])
def test_intervals_cover_the_truth_about_95_times_in_100(kind: str) -> None:
    rng = np.random.default_rng(5)
    covered = 0
    for seed in range(400):
        if kind == "skewed mean":
            values, truth = rng.exponential(size=100), 1.0
        else:  # 15 % only the first is right, 5 % only the second
            values, truth = rng.choice([1.0, -1.0, 0.0], size=100, p=[0.15, 0.05, 0.8]), 0.10
        estimate = interval(values, resamples=500, seed=seed)
        covered += estimate.low <= truth <= estimate.high
    assert 0.91 <= covered / 400 <= 0.985


def test_identical_values_give_a_point() -> None:
    assert interval(np.full(10, 3.0)) == Estimate(3.0, 3.0, 3.0, 10)


@pytest.mark.parametrize(("value", "low", "high"), [(0.0, -0.2775, 0.2775), (1.0, 0.4449, 1.0), (-1.0, -1.0, -0.4449)])
def test_paired_differences_all_alike_are_widened(value: float, low: float, high: float) -> None:
    same = np.full(10, value)
    assert widened(interval(same), same) == pytest.approx((value, low, high, 10), abs=1e-3)


def test_differences_that_vary_are_left_alone() -> None:
    values = np.array([0.0, 1.0, 0.0])
    assert widened(interval(values), values) == interval(values)


def test_ratio_without_a_denominator_is_no_data() -> None:
    columns = np.zeros((4, 2))
    estimate = bca(columns, Bootstrap(4, 100, 0).sums(columns), mean, 4)
    assert math.isnan(estimate.value)
    assert estimate.json() == {"value": None, "low": None, "high": None, "n": 4}
    assert not no_data().excludes_zero


def test_estimates_print_with_their_interval() -> None:
    assert f"{Estimate(0.662, 0.62, 0.7019, 500):.1%}" == "66.2% [62.0%, 70.2%]"
