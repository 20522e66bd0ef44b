"""What adaptive sampling saved: small rounds by hand, what always holds, and real tables."""

from __future__ import annotations

import random

import pytest

from overproof.reporting.domain.savings import Draw, Pass, Round, answer, draws_of, rows


def round_of(*problems: str, enough: int = 1, most: int = 4, tokens: int = 10, quota: str = "uniform") -> Round:
    """Problems as words: `wwr` drew three completions, the last one right."""
    made = Round(1, enough, most, quota, [Pass()])
    for word in problems:
        made.add([Draw(tokens, letter == "r") for letter in word])
        made.passes[0].completions += len(word)
        made.passes[0].tokens += tokens * len(word)
    return made


def test_a_fixed_number_is_measured_by_what_would_have_been_drawn() -> None:
    found = round_of("r", "wr", "wwwr", "wwww")
    assert [(found.fixed(k).completions, found.fixed(k).solved) for k in (1, 2, 3, 4)] == [
        (4, 1),
        (8, 2),
        (12, 2),
        (16, 3),
    ]
    assert (found.completions, found.solved, found.same_coverage.k) == (11, 3, 4)
    assert "31% fewer completions and 31% fewer tokens than with those 16" in answer([found])


def test_enough_counts_the_problems_that_have_as_many() -> None:
    found = round_of("rr", "rwr", "wwwr", enough=2)
    assert [found.fixed(k).enough for k in (1, 2, 3, 4)] == [0, 1, 2, 2]
    assert (found.covered, found.same_coverage.k) == (2, 3)
    assert "2 of 3 problems have at least 2 correct" in answer([found])


def test_by_difficulty_a_solved_problem_is_covered() -> None:
    found = round_of("rr", "rwr", "wwwr", enough=2, quota="difficulty")
    assert (found.covered, found.same_coverage.k) == (3, 4)
    assert "3 of 3 problems have at least 1 correct" in answer([found])


def test_tokens_of_completions_that_nobody_drew_are_the_problems_mean() -> None:
    found = Round(1, 1, 4)
    found.add([Draw(10, False), Draw(20, True)])
    assert [found.fixed(k).tokens for k in (1, 2, 3, 4)] == [10, 30, 45, 60]


def test_a_round_that_solved_nothing_saved_nothing() -> None:
    found = round_of("wwww", "wwww")
    assert found.same_coverage.k == 1
    assert "0 of 2 problems have" in answer([found])


def test_rows_hold_every_fixed_number_of_every_round() -> None:
    found = rows([round_of("r", "wr", most=3)])
    assert [(row["way"], row["k"], row["completions"]) for row in found] == [
        ("adaptive", None, 3), ("fixed", 1, 2), ("fixed", 2, 4), ("fixed", 3, 6),
    ]  # fmt: skip
    assert rows([]) == []
    assert answer([]).startswith("Every problem got the same number")


def test_completions_come_in_the_order_of_their_numbers() -> None:
    found = draws_of(
        [{"sample": 1, "n_tokens": 5, "verdict": "correct"}, {"sample": 0, "n_tokens": 7, "verdict": "timeout"}]
    )
    assert found == [Draw(7, False), Draw(5, True)]


@pytest.mark.parametrize("seed", range(5))
def test_coverage_is_what_a_fixed_number_would_really_solve(seed: int) -> None:
    """Against all completions, drawn for real: adaptive sampling sees a part of them only."""
    chance = random.Random(seed)
    full = [
        "".join("r" if chance.random() < rate else "w" for _ in range(8))
        for rate in [chance.random() for _ in range(60)]
    ]
    seen = []
    for word in full:
        n = next((n for n in range(2, 9, 2) if "r" in word[:n]), 8)
        seen.append(word[:n])
    found = round_of(*seen, most=8)
    for k in range(1, 9):
        assert found.fixed(k).solved == sum("r" in word[:k] for word in full)
        assert found.fixed(k).tokens == 10 * 60 * k
    assert found.same_coverage.solved == found.covered == found.solved
    assert found.fixed(found.same_coverage.k - 1).solved < found.solved
    assert found.completions <= found.fixed(8).completions
