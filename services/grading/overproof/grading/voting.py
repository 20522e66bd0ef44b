"""The shard that counts votes: grades of all sampling passes → one row per problem."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import pyarrow as pa

from overproof.grading.domain.policy import Policy
from overproof.grading.domain.voting import Ballot, parties
from overproof.grading.tasks import check_version
from overproof.shared.specs import VoteSpec
from overproof.shared.tables import GRADES, PROBLEMS, VOTES, rows_of, table_of
from overproof.shared.topology import Verdict
from overproof.shared.work import Work

ROWS_PER_TABLE = 1_000
"""Problems that are counted before they are written."""


def vote(work: Work[VoteSpec]) -> None:
    """One part of problems with its grades → VOTES, in the problems' order; what is held is one part's answers, no texts."""
    check_version(work.spec.grader)
    options = work.spec.options
    policy = Policy(options.strict, options.order_matters, options.decimal_tolerance)
    ballots = _ballots(work)
    problems = rows_of(
        work.read(work.spec.problems, PROBLEMS, part=work.shard, columns=["problem_id", "source", "answer"])
    )
    work.write(VOTES, _tables(work, (_row(row, ballots.get(row["problem_id"], []), policy) for row in problems)))


def _ballots(work: Work[VoteSpec]) -> dict[Any, list[Ballot]]:
    """Of each problem, in the order of the samples."""
    found: dict[Any, list[Ballot]] = defaultdict(list)
    for ref in work.spec.grades:
        columns = ["problem_id", "sample", "verdict", "extracted"]
        for row in rows_of(work.read(ref, GRADES, part=work.shard, columns=columns)):
            found[row.pop("problem_id")].append(Ballot(**row))  # type: ignore[arg-type]
    return {problem_id: sorted(ballots, key=lambda ballot: ballot.sample) for problem_id, ballots in found.items()}


def _tables(work: Work[VoteSpec], rows: Iterable[dict[str, Any]]) -> Iterator[pa.Table]:
    """Tables of counted rows; problems and those with an answer go to the receipt."""
    stream, problems, answered = iter(rows), 0, 0
    while chunk := list(islice(stream, ROWS_PER_TABLE)):
        work.check()
        problems += len(chunk)
        answered += sum(row["answer"] is not None for row in chunk)
        yield table_of(chunk, VOTES)
    work.note(problems=problems, problems_answered=answered)


def _row(problem: dict[str, Any], ballots: list[Ballot], policy: Policy) -> dict[str, Any]:
    first, second = [*parties(ballots, problem["answer"], policy), None, None][:2]
    return {
        "problem_id": problem["problem_id"],
        "source": problem["source"],
        "gold": problem["answer"],
        "readable": all(ballot.verdict != Verdict.UNGRADABLE for ballot in ballots),
        "completions": len(ballots),
        "answered": sum(ballot.extracted is not None for ballot in ballots),
        "correct": sum(ballot.verdict == Verdict.CORRECT for ballot in ballots),
        "answer": first.answer if first else None,
        "agrees": first is not None and first.is_gold,
        "votes": len(first.samples) if first else 0,
        "samples": list(first.samples) if first else [],
        "runner_up": second.answer if second else None,
        "runner_up_votes": len(second.samples) if second else 0,
    }
