"""The training completions of a report's rounds as numbers: part by part, no texts."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from overproof.reporting import reading
from overproof.reporting.domain.savings import Pass, Round, draws_of
from overproof.shared.recipe import SamplingOptions
from overproof.shared.specs import ReportSpec, SampleSpec
from overproof.shared.tables import PROBLEMS, rows_of
from overproof.shared.work import Work

NUMBERS = ["problem_id", "sample", "n_tokens"]
Pair = tuple[str, str]
"""Completions and their grades."""


def rounds(work: Work[ReportSpec], sampling: SamplingOptions) -> list[Round]:
    """What each round drew; none when every problem got the same number of completions."""
    if sampling.enough is None or work.spec.train_problems is None:
        return []
    by_round: dict[int, list[Pair]] = defaultdict(list)
    for completions, grades in zip(work.spec.sampled, work.spec.graded, strict=True):
        spec = work.artifacts.spec(completions)
        if isinstance(spec, SampleSpec):
            by_round[spec.round].append((completions, grades))
    enough, most, quota = sampling.enough, sampling.max_samples, sampling.quota
    found = [(Round(number, enough, most, quota), pairs) for number, pairs in sorted(by_round.items())]
    return [_counted(work, one, pairs) for one, pairs in found]


def _counted(work: Work[ReportSpec], found: Round, pairs: list[Pair]) -> Round:
    """The round with all its passes and problems."""
    found.passes = [Pass() for _ in pairs]
    problems = str(work.spec.train_problems)
    for part in range(reading.n_parts(work, problems, *(ref for pair in pairs for ref in pair))):
        drawn: dict[str, list[dict[str, Any]]] = defaultdict(list)
        solved: set[str] = set()
        for pair, one in zip(pairs, found.passes, strict=True):
            for problem_id, rows in _by_problem(work, pair, part).items():
                _count(one, rows)
                drawn[problem_id] += rows
                if any(row["verdict"] == "correct" for row in rows):
                    solved.add(problem_id)
            one.solved += len(solved)
        for row in rows_of(work.read(problems, PROBLEMS, part=part, columns=["problem_id"])):
            found.add(draws_of(drawn[str(row["problem_id"])]))
    return found


def _by_problem(work: Work[ReportSpec], pair: Pair, part: int) -> dict[str, list[dict[str, Any]]]:
    rows: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for table in reading.graded(work, *pair, part, NUMBERS):
        for row in table.to_pylist():
            rows[row["problem_id"]].append(row)
    return rows


def _count(one: Pass, rows: list[dict[str, Any]]) -> None:
    one.problems += 1
    one.completions += len(rows)
    one.tokens += sum(row["n_tokens"] for row in rows)
    one.correct += sum(row["verdict"] == "correct" for row in rows)
