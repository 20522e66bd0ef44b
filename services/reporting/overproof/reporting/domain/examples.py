"""Which problems the report shows in full: where the best model lost and won against the baseline, and what was not judged."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from overproof.reporting.domain.outcomes import CODE, Integers, Outcomes, Subject, Truths

MAX_LOST = 40
MAX_WON = 20
MAX_UNJUDGED = 40
"""Rows of the report; a page that is mailed stays below some MB."""


class Pick(NamedTuple):
    """One completion to show."""

    label: str
    problem: int
    """Position."""
    sample: int


class Example(NamedTuple):
    """A problem with the completions to show beside each other."""

    outcome: str
    """lost, won or unjudged."""
    picks: tuple[Pick, ...]


def choose(best: Subject | None, baseline: Subject, subjects: list[Subject], seed: int) -> list[Example]:
    """Losses first, then wins, drawn at random where there are more than fit; then completions without a judgement."""
    examples = [] if best is None else _differences(best, baseline, seed)
    return examples + _unjudged(subjects, seed)


def _differences(best: Subject, baseline: Subject, seed: int) -> list[Example]:
    mine, theirs = best.outcomes, baseline.outcomes
    judged = (mine.gradable > 0) & (theirs.gradable > 0)
    lost = _draw(judged & (mine.share < theirs.share), MAX_LOST, seed)
    won = _draw(judged & (mine.share > theirs.share), MAX_WON, seed)
    chosen = [("lost", position, False) for position in lost] + [("won", position, True) for position in won]
    return [
        Example(
            outcome,
            (
                Pick(best.label, position, _sample(mine, position, correct=right)),
                Pick(baseline.label, position, _sample(theirs, position, correct=not right)),
            ),
        )
        for outcome, position, right in chosen
    ]


def _draw(wanted: Truths, at_most: int, seed: int) -> list[int]:
    positions = np.flatnonzero(wanted)
    if len(positions) > at_most:
        positions = np.sort(np.random.default_rng(seed).choice(positions, at_most, replace=False))
    return [int(position) for position in positions]


def _sample(outcomes: Outcomes, position: int, *, correct: bool) -> int:
    """The first judged sample of the problem that is (or is not) correct."""
    rows = outcomes.is_gradable & (outcomes.is_correct == correct) & (outcomes.problem == position)
    return int(outcomes.sample[np.flatnonzero(rows)[0]])


def unjudged_rows(outcomes: Outcomes) -> Integers:
    """Rows that say nothing about the model: the grader ran out of time, or the gold answer cannot be read."""
    return np.flatnonzero(np.isin(outcomes.verdict, [CODE["timeout"], CODE["ungradable"]])).astype(np.int64)


def _unjudged(subjects: list[Subject], seed: int) -> list[Example]:
    picks = [
        Pick(subject.label, int(subject.outcomes.problem[row]), int(subject.outcomes.sample[row]))
        for subject in subjects
        for row in unjudged_rows(subject.outcomes)
    ]
    chosen = _draw(np.ones(len(picks), dtype=np.bool_), MAX_UNJUDGED, seed)
    return [Example("unjudged", (picks[i],)) for i in chosen]
