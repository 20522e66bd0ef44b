"""What the completions of a problem say together, and the table of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from overproof.grading.domain.policy import Policy
from overproof.grading.domain.voting import Ballot, parties
from overproof.grading.grader import Grader
from overproof.grading.voting import vote
from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import Conflict
from overproof.shared.files import Files
from overproof.shared.messages import ShardRequest
from overproof.shared.recipe import GradingOptions
from overproof.shared.records import Receipt
from overproof.shared.specs import VoteSpec
from overproof.shared.tables import GRADES, PROBLEMS, VOTES, table_of
from overproof.shared.work import Work

PROBLEMS_REF = f"prepare/{'a' * 32}"


def ballots(*answers: str | None, gold: str = "1") -> list[Ballot]:
    """One completion per answer; None found no answer."""
    verdicts = ["no_answer" if answer is None else "correct" if answer == gold else "wrong" for answer in answers]
    return [Ballot(i, *pair) for i, pair in enumerate(zip(verdicts, answers, strict=True))]


@pytest.mark.parametrize(
    ("answers", "found"),
    [
        (["0.5", "\\frac12", "2/4", "3"], [("0.5", (0, 1, 2), False), ("3", (3,), False)]),
        (["2", "1", "2", None], [("2", (0, 2), False), ("1", (1,), True)]),
        (["2", "1", "2", "1"], [("1", (1, 3), True), ("2", (0, 2), False)]),  # of equally many the gold answer
        ([None, None], []),
        (["1", "1"], [("1", (0, 1), True)]),
    ],
)
def test_parties(answers: list[str | None], found: list[tuple[str, tuple[int, ...], bool]]) -> None:
    assert [tuple(party) for party in parties(ballots(*answers), "1")] == found


def test_correct_completions_are_one_party_and_time_outs_have_no_vote() -> None:
    cast = [
        Ballot(0, "correct", "1"),
        Ballot(1, "correct", "\\frac22"),
        Ballot(2, "timeout", "9"),
        Ballot(3, "truncated", None),
    ]
    assert [tuple(party) for party in parties(cast, "1")] == [("1", (0, 1), True)]


def test_options_say_which_answers_are_the_same() -> None:
    cast = ballots("2, 3", "3, 2")
    assert len(parties(cast, "1")) == 1
    assert len(parties(cast, "1", Policy(order_matters=True))) == 2


def work_on(folder: Path, passes: list[list[dict[str, Any]]], **spec: Any) -> Work[VoteSpec]:
    """Two problems, the second without a gold answer, and the grades of some passes."""
    artifacts = Artifacts(Files(str(folder)))
    problems = [
        {"problem_id": name, "group_id": name, "problem": "?", "answer": answer, "source": f"s:{name}"}
        for name, answer in (("p", "1"), ("q", ""))
    ]
    refs = [f"grade/{number:032d}" for number in range(len(passes))]
    for ref, schema, rows in (
        (PROBLEMS_REF, PROBLEMS, problems),
        *zip(refs, [GRADES] * len(refs), passes, strict=True),
    ):
        part = artifacts.write_part(ref, 0, schema, [table_of(rows, schema)])
        artifacts.publish(ref, Receipt(shard=0, parts=(part,), owner="test", started_at=0, finished_at=1))
    made = VoteSpec(problems=PROBLEMS_REF, grades=tuple(refs), options=GradingOptions(), **spec)
    return Work(made, ShardRequest(stage=made.stage, key=made.key, shard=0, run_id="r"), artifacts, lambda values: None)


def graded(problem_id: str, sample: int, text: str, gold: str) -> dict[str, Any]:
    """A row of GRADES as the grader makes it."""
    with Grader() as grader:
        found = grader.grade(text, [gold])
    row = found._asdict() | {"verdict": str(found.verdict), "grader": "test", "spec": "s"}
    return {"problem_id": problem_id, "sample": sample, **row}


def test_votes_are_counted_over_all_passes_also_where_the_gold_cannot_be_read(tmp_path: Path) -> None:
    first = [graded("p", 0, "\\boxed{0.5}", "1"), graded("q", 0, "\\boxed{7}", ""), graded("q", 1, "none", "")]
    second = [
        graded("p", 1, "\\boxed{1/2}", "1"),
        graded("p", 2, "\\boxed{1}", "1"),
        graded("q", 2, "\\boxed{14/2}", ""),
    ]
    work = work_on(tmp_path, [first, second])
    vote(work)
    rows = [row for batch in work.artifacts.read_part(work.ref, work.parts[0], VOTES) for row in batch.to_pylist()]
    p, q = rows
    assert (p["answer"], p["votes"], p["samples"], p["agrees"], p["correct"]) == ("0.5", 2, [0, 1], False, 1)
    assert (p["runner_up"], p["runner_up_votes"], p["completions"], p["readable"]) == ("1", 1, 3, True)
    assert (q["answer"], q["samples"], q["answered"], q["completions"], q["readable"]) == ("7", [0, 2], 2, 3, False)
    assert work.notes == {"problems": 2, "problems_answered": 2}


def test_a_problem_that_nobody_answered_has_a_row(tmp_path: Path) -> None:
    work = work_on(tmp_path, [[]])
    vote(work)
    rows = [row for batch in work.artifacts.read_part(work.ref, work.parts[0], VOTES) for row in batch.to_pylist()]
    assert [(row["answer"], row["votes"], row["completions"]) for row in rows] == [(None, 0, 0)] * 2


def test_another_grader_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="Grader 0 is asked for"):
        vote(work_on(tmp_path, [[]], grader="0"))
