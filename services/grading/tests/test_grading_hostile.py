"""Hostile answers: never right, never late, never run, and the grader goes on; as answers, as golds and inside solutions."""

import runpy
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from overproof.grading.grader import Grade, Grader
from overproof.shared.topology import Verdict

TABLE = runpy.run_path(str(Path(__file__).parent / "cases" / "hostile.py"))
HOSTILE: list[Any] = TABLE["hostile"]()
ALIKE = {
    "code as commands", "names that libraries own", "control characters", "direction of writing", "characters that are not seen",
    "digits of other scripts", "surrogates and noncharacters", "combining marks", "backtracking", "nearly the same value",
    "notations that hide the value",
}  # fmt: skip
"""Classes in which several texts may say the same."""
NEIGHBOURS = [(one, other) for one, other in pairwise(HOSTILE) if one.kind == other.kind and one.kind not in ALIKE]

BUDGET_SECONDS = 0.5
LATE_SECONDS = 10.0
"""The budget, the start of a new child process and a machine that is busy with other things."""

SOLUTIONS = ("So \\boxed{TEXT}", "Hence the answer is TEXT", "Hence $TEXT$", "TEXT and so \\boxed{8.25}")


def label(case: Any) -> str:
    cases = HOSTILE if hasattr(case, "kind") else NEIGHBOURS
    return f"{getattr(case, 'kind', None) or case[0].kind} {cases.index(case)}"


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A file that no payload may make."""
    path = tmp_path_factory.mktemp("canary") / "bird"
    yield path
    assert not path.exists()


@pytest.fixture(scope="module")
def grader(canary: Path) -> Iterator[Grader]:
    """One for all: what a case leaves behind meets the next one. Afterwards it still judges an ordinary pair rightly."""
    with Grader(BUDGET_SECONDS) as made:
        yield made
    with Grader() as after:
        made._symbolic.seconds_per_answer = 5.0
        for each in (made, after):
            assert each.grade("\\int_0^1 x^4 dx", ["\\frac15"], is_solution=False).verdict is Verdict.CORRECT
            assert each.grade("so \\boxed{\\sqrt{8}}", ["2\\sqrt2"]).verdict is Verdict.CORRECT
        made.close()


def refused(grade: Grade) -> bool:
    return grade.verdict is not Verdict.CORRECT and grade.seconds < LATE_SECONDS


def test_the_table_is_large_and_its_classes_have_many_members() -> None:
    kinds = [case.kind for case in HOSTILE]
    assert len(HOSTILE) >= 400
    assert {kind for kind in kinds if kinds.count(kind) < 10} == set()


@pytest.mark.parametrize("case", HOSTILE, ids=label)
def test_a_hostile_text_is_refused_wherever_it_stands(case: Any, grader: Grader, canary: Path) -> None:
    text = case.text.replace("{canary}", str(canary))
    assert refused(grader.grade(text, [case.lure], is_solution=False))
    assert refused(grader.grade(case.lure, [text], is_solution=False))
    for solution in SOLUTIONS:
        assert refused(grader.grade(solution.replace("TEXT", text), [case.lure])), solution
    assert not canary.exists()


@pytest.mark.parametrize("pair", NEIGHBOURS, ids=label)
def test_two_hostile_texts_are_not_the_same_answer(pair: tuple[Any, Any], grader: Grader) -> None:
    one, other = pair
    assert refused(grader.grade(one.text, [other.text], is_solution=False))
