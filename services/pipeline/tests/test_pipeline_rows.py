"""Rows of other people's data sets, and what makes two problems the same."""

from __future__ import annotations

from typing import Any

import pytest

from overproof.pipeline.domain.rows import completion_row, last_box, problem_row, selected_row
from overproof.pipeline.domain.statements import group_id, problem_id
from overproof.shared.errors import DatasetError


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"problem": "What is 1+1?", "answer": "2"}, {"answer": "2", "level": None, "type": None}),
        ({"question": "What is 1+1?", "answer": "1+1=2\n#### 1,002"}, {"answer": "1002"}),
        ({"problem": "What?", "solution": r"So \boxed{\frac{1}{2}}."}, {"answer": r"\frac{1}{2}"}),
        (
            {"problem": "What?", "answer": ["2", "two"], "level": "Level 3"},
            {"answer": "2", "alternatives": ["two"], "level": 3},
        ),
        (
            {"prompt": "What?", "gold": 5, "subject": "Algebra", "difficulty": 2},
            {"answer": "5", "type": "Algebra", "level": 2},
        ),
        ({"problem": "What?", "answer": "2", "level": "Level ?"}, {"level": None}),
    ],
)
def test_problem_row(values: dict[str, Any], expected: dict[str, Any]) -> None:
    row = problem_row(values, {}, "set:1")
    assert {name: row[name] for name in expected} == expected


def test_mapping_goes_before_usual_names() -> None:
    row = problem_row(
        {"problem": "no", "task": "What?", "answer": "3", "final": "4"}, {"problem": "task", "answer": "final"}, "s:1"
    )
    assert (row["problem"], row["answer"]) == ("What?", "4")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"answer": "2"}, "problem is missing"),
        ({"problem": "  ", "answer": "2"}, "problem is missing"),
        ({"problem": "x" * 40_000, "answer": "2"}, "longer than"),
        ({"problem": "What?"}, "answer is missing"),
        ({"problem": "What?", "answer": ""}, "answer is missing"),
        ({"problem": "What?", "answer": "9" * 5000}, "answer is longer"),
        ({"problem": "What?", "solution": r"\boxed{1"}, "answer is missing"),
    ],
)
def test_bad_problem_names_the_field(values: dict[str, Any], told: str) -> None:
    with pytest.raises(DatasetError, match=told):
        problem_row(values, {}, "s:1")


def test_answer_may_be_missing_where_completions_may_label_the_problem() -> None:
    row = problem_row({"problem": "What?"}, {}, "s:1", needs_answer=False)
    assert (row["answer"], row["alternatives"]) == ("", None)
    assert problem_row({"problem": "What?", "answer": "4"}, {}, "s:1", needs_answer=False)["answer"] == "4"
    with pytest.raises(DatasetError, match="problem is missing"):
        problem_row({"answer": "4"}, {}, "s:1", needs_answer=False)


def test_original_solutions_line_becomes_a_completion() -> None:
    row = completion_row({"problem": "q", "solution": "a", "num_tokens": 7}, {}, 1, "spec")
    assert (row["text"], row["n_tokens"], row["sample"], row["finish_reason"]) == ("a", 7, 1, "stop")
    with pytest.raises(DatasetError, match="n_tokens"):
        completion_row({"solution": "a"}, {}, 0, "spec")
    with pytest.raises(DatasetError, match="finish_reason"):
        completion_row({"solution": "a", "num_tokens": 1, "finish_reason": "eos"}, {}, 0, "spec")


def test_training_line_refuses_a_test_split() -> None:
    assert selected_row({"problem": "q", "solution": "a"}, {}, "s:1")["split"] == "train"
    with pytest.raises(DatasetError, match="never reach training"):
        selected_row({"problem": "q", "solution": "a", "split": "test"}, {}, "s:1")


@pytest.mark.parametrize(("text", "box"), [(r"\boxed{1} \boxed{{2}}", "{2}"), ("none", None), (r"\boxed{", None)])
def test_last_box(text: str, box: str | None) -> None:
    assert last_box(text) == box


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("What is $1+1$?", "what  is $1+1$?"),
        (r"Find \left(x\right).", r"find~ (x)."),
    ],
)
def test_same_statement_has_one_id(one: str, other: str) -> None:
    assert problem_id(one) == problem_id(other)


@pytest.mark.parametrize(
    ("one", "other", "near"),
    [
        (
            "Tom has 3 boxes with 4 pens in each. How many pens?",
            "Anna has 3 boxes with 4 pens in each. How many pens?",
            True,
        ),
        (
            "Tom has 3 boxes with 4 pens in each. How many pens?",
            "Tom has 4 boxes with 3 pens in each. How many pens?",
            False,
        ),
        ("Find the area of a circle of radius 3.", "What is the area of a circle of radius 3?", True),
        ("Find the area of a circle of radius 3.", "What is the perimeter of a circle of radius 3?", False),
        ("Prove it.", "Solve it.", False),
    ],
)
def test_near_duplicates_share_a_group(one: str, other: str, near: bool) -> None:
    assert (group_id(one) == group_id(other)) is near
