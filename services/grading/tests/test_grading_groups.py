"""Grouping the answers of many samples by what they say, not by how they are written."""

import random

import pytest

from overproof.grading.domain.groups import canonical_key, group_answers


@pytest.mark.parametrize(
    ("answers", "groups"),
    [
        (["0.5", "1/2", "\\frac{1}{2}", "2"], [0, 0, 0, 3]),
        (["x=3", "3", "3.0", "y"], [0, 0, 0, 3]),
        (["\\sqrt{8}", "2\\sqrt{2}", "2.83"], [0, 0, 2]),
        (["1,2", "2, 1", "(1,2)"], [0, 0, 2]),
        (["50", "50\\%", "0.5"], [0, 0, 2]),
        (["", " ", "5"], [0, 0, 2]),
        (["B", "(B)", "\\text{B}"], [0, 0, 0]),
        ([], []),
        (["1/0", "1/0", "2"], [0, 0, 2]),
        (["9^{9^{9^9}}", "9^{9^{9^9}}", "9"], [0, 0, 2]),
    ],
)
def test_equal_answers_share_a_number(answers: list[str], groups: list[int]) -> None:
    assert group_answers(answers) == groups


def test_what_is_not_equal_throughout_does_not_meet_in_one_group() -> None:
    numbers = group_answers(["0.5", "50\\%", "50", "50"])
    assert numbers[2] == numbers[3] != numbers[0]


def test_the_partition_does_not_depend_on_the_order() -> None:
    answers = (
        ["0.5"] * 5 + ["1/2"] * 3 + ["\\frac12", "7", "7", "7.0", "x=7", "\\pi", "pi", "no solution", "\\emptyset"]
    )
    draw = random.Random(5)
    sizes = set()
    for _ in range(10):
        draw.shuffle(answers)
        numbers = group_answers(answers)
        sizes.add(tuple(sorted(numbers.count(number) for number in set(numbers))))
    assert sizes == {(2, 2, 4, 9)}


def test_many_different_answers_stay_cheap_and_apart() -> None:
    answers = [f"\\sqrt{{{n}}}" for n in range(2, 500) if round(n**0.5) ** 2 != n]
    assert group_answers(answers) == list(range(len(answers)))


def test_a_key_is_the_value_of_a_rational_number() -> None:
    assert canonical_key("0.50") == canonical_key("\\dfrac{2}{4}") != canonical_key("0.5000001")
