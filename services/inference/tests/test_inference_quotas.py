"""How many completions a problem gets: what holds whatever the grades, and what the two quotas are."""

from __future__ import annotations

import itertools
import random

import pytest

from overproof.inference.domain.quotas import Drawn, Quota, drawn_so_far, draws, target

QUOTAS: tuple[Quota, ...] = ("uniform", "difficulty")
STATES = [Drawn(n, correct) for n in range(17) for correct in range(n + 1)]
LIMITS = list(itertools.product((1, 2, 3, 8), (1, 3, 4, 16), (4, 8, 16)))
"""enough, per_pass, max_samples."""


def test_completions_are_counted_by_problem() -> None:
    rows = [("p", "correct"), ("q", "wrong"), ("p", "truncated"), ("p", "correct"), ("q", "ungradable")]
    assert drawn_so_far({"problem_id": p, "verdict": v} for p, v in rows) == {"p": Drawn(3, 2), "q": Drawn(2, 0)}


@pytest.mark.parametrize("quota", QUOTAS)
@pytest.mark.parametrize(("enough", "per_pass", "most"), LIMITS)
def test_no_pass_and_no_problem_gets_more_than_it_may(quota: Quota, enough: int, per_pass: int, most: int) -> None:
    for drawn in STATES:
        n = draws(drawn, enough, quota, per_pass, most)
        assert 0 <= n <= per_pass
        assert n == 0 or drawn.n + n <= most


@pytest.mark.parametrize("quota", QUOTAS)
@pytest.mark.parametrize(("enough", "per_pass", "most"), LIMITS)
def test_a_problem_stops_at_its_target_and_not_before(quota: Quota, enough: int, per_pass: int, most: int) -> None:
    for drawn in STATES:
        has_enough = drawn.correct >= target(drawn, enough, quota)
        assert (draws(drawn, enough, quota, per_pass, most) == 0) == (has_enough or drawn.n >= most)


@pytest.mark.parametrize("enough", [1, 2, 3, 8])
def test_difficulty_asks_for_one_to_enough_in_proportion_to_failures(enough: int) -> None:
    for n in range(1, 17):
        targets = [target(Drawn(n, correct), enough, "difficulty") for correct in range(n + 1)]
        assert targets == sorted(targets, reverse=True)
        assert (targets[0], targets[-1]) == (enough, 1)
        assert all(abs(one - enough * (n - c) / n) < 1 or one == 1 for c, one in enumerate(targets))
    assert target(Drawn(), enough, "difficulty") == enough


@pytest.mark.parametrize("quota", QUOTAS)
def test_of_two_problems_the_harder_gets_no_less(quota: Quota) -> None:
    for enough, per_pass, most in LIMITS:
        for n in range(1, 17):
            given = [draws(Drawn(n, correct), enough, quota, per_pass, most) for correct in range(n + 1)]
            assert given == sorted(given, reverse=True)


def test_uniform_gives_an_unfinished_problem_a_whole_pass() -> None:
    assert [draws(Drawn(4, c), 2, "uniform", 4, 10) for c in range(4)] == [4, 4, 0, 0]
    assert draws(Drawn(8, 1), 2, "uniform", 4, 10) == 2


def test_difficulty_gives_what_the_missing_ones_probably_take() -> None:
    assert draws(Drawn(4, 3), 4, "difficulty", 4, 16) == 0  # one of four failed: one correct is enough
    assert draws(Drawn(4, 2), 6, "difficulty", 4, 16) == 2  # three wanted, one is missing, half succeed
    assert draws(Drawn(4, 0), 4, "difficulty", 4, 16) == 4


@pytest.mark.parametrize("quota", QUOTAS)
def test_passes_end_and_never_solved_problems_get_all_samples(quota: Quota) -> None:
    chance = random.Random(3)
    for rate in (0.0, 0.1, 0.5, 0.9, 1.0):
        drawn, passes = Drawn(4, sum(chance.random() < rate for _ in range(4))), 1
        while n := draws(drawn, 3, quota, 4, 16):
            drawn, passes = (
                Drawn(drawn.n + n, drawn.correct + sum(chance.random() < rate for _ in range(n))),
                passes + 1,
            )
        assert passes <= 13
        assert drawn.n == 16 if rate == 0 else drawn.n <= 16
