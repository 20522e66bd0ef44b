"""Gold answers to look at: problems whose completions agree clearly on another answer. Nothing is relabelled here."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from overproof.shared.recipe import MajorityRule


class Standing(StrEnum):
    """How the completions of a problem stand to its gold answer."""

    AGREES = "agrees"
    """The gold answer can be read, and no other answer has a clear majority."""
    CONTRADICTS = "contradicts"
    """Another answer has a clear majority."""
    UNREADABLE = "unreadable"
    """There is no gold answer that can be read; an answer has a clear majority."""
    UNKNOWN = "unknown"
    """Neither: nothing is known of the problem."""


def standing(vote: Mapping[str, Any], rule: MajorityRule) -> Standing:
    """Reads readable, agrees, votes, runner_up_votes, completions of a row of VOTES.

    A clear majority: at least `min_votes` completions give the answer, they are at least `min_share` of all completions of
    the problem, and the next answer has at least `min_lead` fewer.
    """
    if not vote["readable"]:
        return Standing.UNREADABLE if is_clear(vote, rule) else Standing.UNKNOWN
    return Standing.CONTRADICTS if is_clear(vote, rule) and not vote["agrees"] else Standing.AGREES


def is_clear(vote: Mapping[str, Any], rule: MajorityRule) -> bool:
    """Whether the answer with the most votes has a clear majority."""
    votes, completions = vote["votes"], vote["completions"]
    return bool(
        votes >= rule.min_votes
        and votes / completions >= rule.min_share
        and votes - vote["runner_up_votes"] >= rule.min_lead
    )


def review_row(vote: Mapping[str, Any], rule: MajorityRule, number: int, problem: str) -> dict[str, Any] | None:
    """The row of GOLD_REVIEW of a problem in round `number`; None when there is nothing to look at."""
    why = standing(vote, rule)
    if why not in (Standing.CONTRADICTS, Standing.UNREADABLE):
        return None
    names = (
        "problem_id",
        "source",
        "gold",
        "answer",
        "votes",
        "correct",
        "runner_up",
        "runner_up_votes",
        "completions",
    )
    return {name: vote[name] for name in names} | {"round": number, "why": str(why), "problem": problem}
