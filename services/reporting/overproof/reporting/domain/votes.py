"""Gold answers to look at: problems whose completions agree on another answer. Nothing is relabelled here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from overproof.shared.topology import Verdict

MIN_VOTES = 3
"""Two completions that err alike are no sign of a wrong gold answer."""

TIMES_THE_GOLD = 2
"""An answer with fewer than twice the votes of the gold answer is a hard problem, not a wrong gold answer."""

_LOOSE = re.compile(r"\s+|\\[,;:! ]|\\left|\\right|\$|(?<=\\)[dt](?=frac)")
COLUMNS = ["problem_id", "gold", "answer", "votes", "correct", "samples"]


class Suspect(NamedTuple):
    """`votes` of the problem's `samples` completions say `answer`, `correct` of them agree with `gold`."""

    problem_id: str
    gold: str
    answer: str
    votes: int
    correct: int
    samples: int


@dataclass
class _Ballot:
    gold: str
    samples: int = 0
    correct: int = 0
    votes: Counter[str] = field(default_factory=Counter)
    written: dict[str, str] = field(default_factory=dict)


class Ballots:
    """The answers of some problems' completions: one part at a time, so that few problems are in memory."""

    def __init__(self) -> None:
        self._of: dict[str, _Ballot] = {}

    def add(self, rows: Iterable[dict[str, str | None]]) -> None:
        """Reads problem_id, verdict, extracted, gold. Answers agree when they are written alike but for spacing and size of fractions."""
        for row in rows:
            ballot = self._of.setdefault(str(row["problem_id"]), _Ballot(str(row["gold"])))
            ballot.samples += 1
            ballot.correct += row["verdict"] == Verdict.CORRECT
            answer = row["extracted"]
            if row["verdict"] == Verdict.WRONG and answer:
                key = _LOOSE.sub("", answer)
                ballot.votes[key] += 1
                ballot.written.setdefault(key, answer)

    def suspects(self) -> list[Suspect]:
        """Problems where one wrong answer has more than half of all completions, and at least twice as many as the gold."""
        found = []
        for problem_id, ballot in self._of.items():
            for key, votes in ballot.votes.most_common(1):
                clear = votes >= MIN_VOTES and 2 * votes > ballot.samples and votes >= TIMES_THE_GOLD * ballot.correct
                if clear:
                    written = ballot.written[key]
                    found.append(Suspect(problem_id, ballot.gold, written, votes, ballot.correct, ballot.samples))
        return found
