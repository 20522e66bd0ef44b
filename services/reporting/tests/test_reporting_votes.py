"""Which gold answers are put on the review list."""

import pytest

from overproof.reporting.domain.votes import Ballots, Suspect


def rows(answers: str, gold: str = "1") -> list[dict[str, str | None]]:
    """One completion per word: `1` agrees with the gold, `-` found no answer."""
    return [
        {
            "problem_id": "p",
            "gold": gold,
            "extracted": None if word == "-" else word,
            "verdict": "no_answer" if word == "-" else "correct" if word == gold else "wrong",
        }
        for word in answers.split()
    ]


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        ("2 2 2 3", [("2", 3, 0, 4)]),
        ("2 2 2 1", [("2", 3, 1, 4)]),
        ("2 2 2 2 1 1", [("2", 4, 2, 6)]),
        ("2 2 2 1 1", []),
        ("2 2", []),
        ("2 2 3 3 4", []),
        ("2 2 2 - - -", []),
        ("1 1 1 1", []),
        ("\\dfrac{1}{2} \\frac{1}{2} $\\frac{1}{2}$", [("\\dfrac{1}{2}", 3, 0, 3)]),
    ],
)
def test_a_clear_majority_against_the_gold_is_listed(answers: str, found: list[tuple[str, int, int, int]]) -> None:
    ballots = Ballots()
    for row in rows(answers):
        ballots.add([row])
    assert ballots.suspects() == [Suspect("p", "1", *one) for one in found]
