"""Whole solutions in many styles, `cases/solutions.json`: gold, label, style, text. Extraction and equivalence together."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from overproof.grading.domain.extraction import extract
from overproof.grading.grader import Grader
from overproof.shared.topology import Verdict

SOLUTIONS = json.loads((Path(__file__).parent / "cases" / "solutions.json").read_text())


@pytest.fixture(scope="module")
def grader() -> Iterator[Grader]:
    with Grader() as shared:
        yield shared


@pytest.mark.parametrize("case", SOLUTIONS, ids=lambda case: f"{case['style']}: {case['gold']}")
def test_the_verdict_is_the_label(case: dict[str, str], grader: Grader) -> None:
    grade = grader.grade(case["text"], [case["gold"]])
    assert (grade.verdict is Verdict.CORRECT) is (case["label"] == "correct"), grade


@pytest.mark.parametrize("case", SOLUTIONS, ids=lambda case: f"{case['style']}: {case['gold']}")
def test_the_answer_is_found_where_it_is_said_to_be(case: dict[str, str]) -> None:
    found = extract(case["text"])
    if found is not None and found.method != "boxed":
        assert found.answer in case["text"][found.start : found.end]


def test_what_a_model_was_asked_to_write_is_no_answer() -> None:
    assert extract("Put your final answer in \\boxed{answer}.") is None
    assert extract("<think>So it is \\boxed{14}. But wait,") is None
