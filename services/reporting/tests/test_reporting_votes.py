"""Which gold answers are put on the review list: the rule at its bounds, and the list out of real tables."""

from __future__ import annotations

from typing import Any

import pytest

from overproof.reporting.domain.votes import Standing, is_clear, review_row, standing
from overproof.shared.recipe import MajorityRule
from overproof.shared.specs import ReviewSpec
from overproof.shared.tables import GOLD_REVIEW, PROBLEMS, rows_of

RULE = MajorityRule()


def vote(
    votes: int, runner_up: int, completions: int, *, agrees: bool = False, readable: bool = True
) -> dict[str, Any]:
    """A row of VOTES whose first answer has `votes` of `completions`, the next one `runner_up`."""
    return {
        "problem_id": "p", "source": "s:1", "gold": "1", "readable": readable, "completions": completions,
        "answered": votes + runner_up, "correct": votes if agrees else 0, "answer": "1" if agrees else "2", "agrees": agrees,
        "votes": votes, "samples": list(range(votes)), "runner_up": "3" if runner_up else None, "runner_up_votes": runner_up,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("votes", "runner_up", "completions", "clear"),
    [
        (3, 0, 3, True),
        (2, 0, 2, False),  # too few, though all agree
        (3, 1, 5, True),  # 0.6 of all, two ahead
        (3, 2, 5, False),  # 0.6 of all, one ahead
        (3, 0, 6, False),  # half of all: the others gave no answer
        (59, 0, 100, False),
        (60, 0, 100, True),
        (60, 40, 100, True),
        (4, 2, 6, True),
        (5, 4, 9, False),
        (0, 0, 0, False),
    ],
)
def test_the_rule_at_its_bounds(votes: int, runner_up: int, completions: int, clear: bool) -> None:
    assert is_clear(vote(votes, runner_up, completions), RULE) is clear


@pytest.mark.parametrize(
    ("rule", "clear"),
    [
        ({}, True),
        ({"min_votes": 7}, True),
        ({"min_votes": 8}, False),
        ({"min_share": 0.7}, True),
        ({"min_share": 0.71}, False),
        ({"min_lead": 4}, True),
        ({"min_lead": 5}, False),
    ],
)
def test_every_bound_can_be_moved(rule: dict[str, float], clear: bool) -> None:
    assert is_clear(vote(7, 3, 10), MajorityRule.model_validate(rule)) is clear


@pytest.mark.parametrize(
    ("row", "found"),
    [
        (vote(4, 0, 4), Standing.CONTRADICTS),
        (vote(4, 0, 4, agrees=True), Standing.AGREES),
        (vote(2, 2, 4), Standing.AGREES),
        (vote(4, 0, 4, readable=False), Standing.UNREADABLE),
        (vote(2, 2, 4, readable=False), Standing.UNKNOWN),
    ],
)
def test_standing(row: dict[str, Any], found: Standing) -> None:
    assert standing(row, RULE) is found
    listed = review_row(row, RULE, 1, "?")
    assert (listed is None) == (found in (Standing.AGREES, Standing.UNKNOWN))


def test_the_list_has_every_round_with_the_statement(world) -> None:
    problems = world.problems(4, per_part=2)
    rows = list(rows_of(world.artifacts.read(problems, PROBLEMS)))
    votes = (world.vote(problems, 1), world.vote(problems, 3, number=2))
    ref = world.make(ReviewSpec(problems=problems, votes=votes, rule=RULE))
    found = list(rows_of(world.artifacts.read(ref, GOLD_REVIEW)))
    places = {row["problem_id"]: i for i, row in enumerate(rows)}
    assert [(places[row["problem_id"]], row["round"]) for row in found] == [(0, 1), (0, 2), (1, 2), (2, 2)]
    assert found[0]["problem"] == rows[0]["problem"]
    assert world.artifacts.manifest(ref).notes == ({"contradicts": 4, "unreadable": 0},)
