"""What the completions of one problem say, together: the answer that most of them give, and the next one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from overproof.grading.domain.groups import group_answers
from overproof.grading.domain.policy import DEFAULT, Policy
from overproof.shared.topology import Verdict


class Ballot(NamedTuple):
    """One graded completion."""

    sample: int
    verdict: str
    extracted: str | None


class Party(NamedTuple):
    """Completions that give the same answer."""

    answer: str
    samples: tuple[int, ...]
    is_gold: bool


def parties(ballots: Sequence[Ballot], gold: str, policy: Policy = DEFAULT) -> list[Party]:
    """The answers by votes, the most frequent first; of equally many the gold answer, then the one given first.

    Completions judged correct are one party, however they write the gold answer: the grader has compared them. Those judged
    wrong, and those of a gold answer that cannot be read, are grouped by what they say. A time-out has no vote: its answer
    may be the gold one.
    """
    others = [
        ballot for ballot in ballots if ballot.verdict in (Verdict.WRONG, Verdict.UNGRADABLE) and ballot.extracted
    ]
    found = list(_grouped(others, policy))
    if agreeing := tuple(ballot.sample for ballot in ballots if ballot.verdict == Verdict.CORRECT):
        found.append(Party(gold, agreeing, True))
    return sorted(found, key=lambda party: (-len(party.samples), not party.is_gold, party.samples))


def _grouped(ballots: Sequence[Ballot], policy: Policy) -> Iterable[Party]:
    members: dict[int, list[int]] = defaultdict(list)
    answers = [ballot.extracted or "" for ballot in ballots]
    for ballot, leader in zip(ballots, group_answers(answers, policy), strict=True):
        members[leader].append(ballot.sample)
    return (Party(answers[leader], tuple(samples), False) for leader, samples in members.items())
