"""Verdicts before and after: the table of changed rows, its counts, and what the report says of them."""

from __future__ import annotations

from typing import Any

import pytest

from overproof.reporting.domain.regrades import Move, answer, how, moves
from overproof.shared.recipe import GradingOptions
from overproof.shared.specs import ChangesSpec, GradeSpec, Regraded
from overproof.shared.tables import CHANGES, GRADES, rows_of


@pytest.fixture
def regraded(world) -> tuple[str, str, list[list[dict[str, Any]]]]:
    """(grades, grades by a strict grader, the latter's rows part by part): every tenth correct answer is refused."""
    problems = world.problems(120, per_part=50)
    completions, grades = world.evaluate(problems, name="base", accuracy=0.6, tokens=80)
    spec = GradeSpec(completions=completions, problems=problems, options=GradingOptions(strict=True))
    parts = []
    for part in range(len(world.artifacts.parts(grades))):
        rows = list(rows_of(world.artifacts.read(grades, GRADES, part=part)))
        for i, row in enumerate(rows):
            if row["verdict"] == "correct" and i % 10 == 0:
                row |= {"verdict": "wrong", "reason": "x=5 is not 5", "method": "boxed/structural"}
        parts.append(rows)
    return grades, world._store(spec, GRADES, parts), parts


def spec_of(before: str, after: str) -> ChangesSpec:
    return ChangesSpec(regraded=(Regraded(label="test · base", before=before, after=after),))


def test_changed_rows_are_listed_and_all_are_counted(world, regraded) -> None:
    before, after, parts = regraded
    ref = world.make(spec_of(before, after))
    rows = list(rows_of(world.artifacts.read(ref, CHANGES)))
    expected = [(row["problem_id"], row["sample"]) for part in parts for row in part if row["reason"] == "x=5 is not 5"]
    assert [(row["problem_id"], row["sample"]) for row in rows] == expected
    assert len(rows) > 3
    one = rows[0]
    assert (one["completions"], one["verdict_before"], one["verdict"]) == ("test · base", "correct", "wrong")
    assert (one["method_before"], one["method"], one["reason"]) == ("boxed/exact", "boxed/structural", "x=5 is not 5")
    notes = world.artifacts.manifest(ref).notes[0]
    counts = notes["verdicts"]["test · base"]
    assert counts["correct"]["wrong"] == len(rows)
    assert sum(n for row in counts.values() for n in row.values()) == 120
    assert notes["graders"]["test · base"]["after"]["options"]["strict"] is True


def test_gradings_of_other_completions_are_refused(world, regraded) -> None:
    before, _, _ = regraded
    problems = world.problems(120, per_part=50, groups="other")
    _, other = world.evaluate(problems, name="base", accuracy=0.6, tokens=80, samples=2)
    assert "are not grades of the same completions" in world.failure(spec_of(before, other))


def test_damaged_earlier_grades_cost_their_pair_and_not_the_run(world, regraded) -> None:
    before, after, _ = regraded
    part = world.artifacts.parts(before)[0]
    world.files.put(f"artifacts/{before}/{part.name}", b"damaged")
    gone = Regraded(label="test · gone", before=f"grade/{'0' * 32}", after=after)
    ref = world.make(ChangesSpec(regraded=(*spec_of(before, after).regraded, gone)))
    notes = world.artifacts.manifest(ref).notes[0]
    assert (notes["verdicts"], notes["lost"]) == ({}, ["test · base", "test · gone"])
    assert world.artifacts.manifest(ref).rows == 0


def test_moves_come_by_completions_then_by_number() -> None:
    counts = {
        "train": {"wrong": {"wrong": 9, "correct": 2}, "correct": {"correct": 40, "wrong": 5}},
        "test": {"wrong": {"ungradable": 1}},
    }
    assert moves(counts) == [
        Move("train", "correct", "wrong", 5),
        Move("train", "wrong", "correct", 2),
        Move("test", "wrong", "ungradable", 1),
    ]
    assert answer(counts).startswith("8 of 57 verdicts changed: 2 became correct, 5 are correct no more")
    assert answer({"test": {"wrong": {"wrong": 3}}}) == "All 3 verdicts are as before."


def test_the_difference_is_named_once() -> None:
    options = {"strict": False, "seconds_per_answer": 2.0}
    made = {
        "before": {"grader": "2", "options": options},
        "after": {"grader": "3", "options": options | {"strict": True}},
    }
    assert how({"a": made, "b": made}) == "Before: grader 2, strict false; now: grader 3, strict true."
