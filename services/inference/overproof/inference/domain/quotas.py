"""How many completions a problem gets in a pass of adaptive sampling.

Both quotas count correct completions, as DART does (Tong et al. 2024, arXiv 2407.13690): the same number for every problem
(`uniform`), or a number in proportion to how often the model fails (`difficulty`, their Prop2Diff), where a problem that is
never solved has the full number and one that always is has one. There the failure rate comes from a large sample made
before; here it is that of the problem's own earlier passes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Literal, NamedTuple

from overproof.shared.topology import Verdict

Quota = Literal["uniform", "difficulty"]


class Drawn(NamedTuple):
    """A problem's completions in the earlier passes."""

    n: int = 0
    correct: int = 0


def drawn_so_far(grades: Iterable[Mapping[str, object]]) -> dict[str, Drawn]:
    """Completions by problem. Reads: problem_id, verdict."""
    found: dict[str, Drawn] = {}
    for grade in grades:
        problem_id = str(grade["problem_id"])
        n, correct = found.get(problem_id, Drawn())
        found[problem_id] = Drawn(n + 1, correct + (grade["verdict"] == Verdict.CORRECT))
    return found


def target(drawn: Drawn, enough: int, quota: Quota) -> int:
    """How many correct completions the problem is to have: from 1 to `enough`."""
    if quota == "uniform" or not drawn.n:
        return enough
    return max(1, math.ceil(enough * (drawn.n - drawn.correct) / drawn.n))


def draws(drawn: Drawn, enough: int, quota: Quota, per_pass: int, max_samples: int) -> int:
    """Completions that the problem gets in the next pass: 0 when it has its target, never more than `max_samples` in all.

    By `difficulty` a problem that lacks little, and is often solved, gets no more than that probably takes: what is missing
    over its rate of success ((correct + 1) / (n + 2), Laplace's rule: no problem counts as never solved).
    """
    missing = target(drawn, enough, quota) - drawn.correct
    room = min(per_pass, max_samples - drawn.n)
    if missing <= 0 or room <= 0:
        return 0
    if quota == "uniform":
        return room
    return min(room, math.ceil(missing * (drawn.n + 2) / (drawn.correct + 1)))
