"""Which of many answers are the same one? For votes among the samples of a problem, where text alone would split 0.5 from 1/2.

Equality of answers is not transitive (`50%` is 50 and is 0.5, yet 50 is never 0.5), so an answer joins a group only when it is
the same as every spelling in it, and the spellings with the most votes form their groups first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from overproof.grading.domain.cascade import decide
from overproof.grading.domain.normalise import MAX_ANSWER_CHARS, normalise
from overproof.grading.domain.policy import DEFAULT, Policy
from overproof.grading.domain.rational import rational_of

MAX_COMPARED = 32
"""Spellings that are compared pair by pair, the most frequent ones; the others are grouped by their key alone."""


def canonical_key(answer: str) -> str:
    """A text that equal answers of the plainest kinds share: the exact value of a rational number, else the normalised spelling.

    Equal keys mean equal answers; different keys may yet be equal (`\\sqrt8`, `2\\sqrt2`): `group_answers` compares those.
    """
    if len(answer) > MAX_ANSWER_CHARS:
        return answer
    text = normalise(answer)
    value = rational_of(text)
    return _written(value) if value is not None else text


def _written(value: Fraction) -> str:
    return hex(value.numerator) if value.denominator == 1 else f"{value.numerator:x}/{value.denominator:x}"


def group_answers(answers: Sequence[str], policy: Policy = DEFAULT) -> list[int]:
    """For each answer the index of the first answer of its group: those with one number are the same answer.

    Pure, starts no process: what only the slow path could show equal stays apart. The order of the answers matters only for
    ties between spellings with equally many votes.
    """
    keys = [canonical_key(answer) for answer in answers]
    first: dict[str, int] = {}
    for index, key in enumerate(keys):
        first.setdefault(key, index)
    groups: list[list[str]] = []
    for key, _ in Counter(keys).most_common():
        _join(groups, key, answers, first, policy)
    leader = {key: min(first[member] for member in group) for group in groups for key in group}
    return [leader[key] for key in keys]


def _join(groups: list[list[str]], key: str, answers: Sequence[str], first: dict[str, int], policy: Policy) -> None:
    """Put one spelling into the first group that it equals throughout, or into one of its own."""
    if key and sum(map(len, groups)) < MAX_COMPARED:
        for group in groups:
            if all(decide(answers[first[key]], answers[first[member]], policy).equal for member in group):
                group.append(key)
                return
    groups.append([key])
