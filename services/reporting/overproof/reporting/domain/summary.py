"""A whole comparison: the rows of COMPARISON, and what the report needs beside them."""

from __future__ import annotations

import itertools
import math
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from overproof.reporting.domain.comparison import (
    Contrast,
    Slice,
    best_of,
    common_correct,
    compare_slice,
    row_of,
    token_figures,
)
from overproof.reporting.domain.outcomes import VERDICTS, Integers, Outcomes, Subject, check_alike
from overproof.reporting.domain.statistics import CONFIDENCE, Floats
from overproof.shared.errors import DatasetError
from overproof.shared.topology import Role

BINS_PER_DOUBLING = 4
"""Of the histograms on a log2 axis."""


class Summary(NamedTuple):
    """What `compare` found."""

    rows: list[dict[str, Any]]
    """Of COMPARISON."""
    best: str | None
    facts: dict[str, Any]
    """The content of `comparison.json`."""


def slices_of(level: pa.ChunkedArray, kind: pa.ChunkedArray) -> list[Slice]:
    """All problems, then each level, then each type; problems without a level or type are in no such slice."""
    found = [Slice("all", "", np.arange(len(level), dtype=np.int64))]
    for name, column in (("level", level), ("type", kind)):
        codes = column.combine_chunks().dictionary_encode()
        places = codes.indices.fill_null(-1).to_numpy()
        values = codes.dictionary.to_pylist()
        for code in sorted(range(len(values)), key=values.__getitem__):
            found.append(Slice(name, str(values[code]), np.flatnonzero(places == code).astype(np.int64)))
    return found


def summarise(
    subjects: list[Subject],
    slices: list[Slice],
    *,
    baseline: str,
    contrasts: tuple[tuple[str, str], ...],
    resamples: int,
    seed: int,
) -> Summary:
    """Compare all subjects with the baseline in every slice; over all problems also the further pairs, and best with teacher.

    Raises DatasetError when there is no problem, when a label is unknown, and when the subjects are unlike (`check_alike`).
    """
    spec = check_alike(subjects)
    labels = [subject.label for subject in subjects]
    _check_labels(labels, {baseline, *(label for pair in contrasts for label in pair)})
    if not len(slices[0].problems):
        raise DatasetError("There is no test problem to compare on.", "Give a test set with at least one problem.")
    common = common_correct(subjects)
    against = [(label, baseline) for label in labels if label != baseline]
    best = best_of(subjects, baseline)
    teachers = [(best, one.label) for one in subjects if one.role == Role.TEACHER and best not in (None, one.label)]
    further = [pair for pair in dict.fromkeys([*contrasts, *teachers]) if pair not in against]
    overall = compare_slice(subjects, against + further, slices[0], resamples=resamples, seed=seed)
    narrower = (compare_slice(subjects, against, part, resamples=resamples, seed=seed) for part in slices[1:])
    rows = [
        row_of(subject, sliced, baseline, common)
        for sliced in itertools.chain([overall], narrower)
        for subject in subjects
    ]
    facts = {
        "baseline": baseline,
        "best": best,
        "spec": spec,
        "confidence": CONFIDENCE,
        "resamples": resamples,
        "seed": seed,
        "problems": len(slices[0].problems),
        "problems_common_correct": len(common),
        "models": {subject.label: _model(subject, slices, common) for subject in subjects},
        "contrasts": [_contrast(contrast, subjects) for contrast in overall.contrasts.values()],
    }
    return Summary(rows, best, facts)


def _check_labels(labels: list[str], wanted: set[str]) -> None:
    unknown = sorted(wanted - set(labels))
    if unknown or len(set(labels)) != len(labels):
        raise DatasetError(
            f"The comparison names {', '.join(unknown) or 'one label twice'}; its evaluations are {', '.join(labels)}.",
            "Give every evaluation a label of its own and compare only those.",
        )


def _model(subject: Subject, slices: list[Slice], common: Integers) -> dict[str, Any]:
    """One model in the shape that the original workflow's evaluation files have, and more."""
    outcomes = subject.outcomes
    everything = np.ones(len(outcomes.problem), dtype=np.bool_)
    counts = np.bincount(outcomes.verdict, minlength=len(VERDICTS)).tolist()
    return {
        "role": subject.role,
        "round": subject.round,
        "model": subject.model,
        "overall": _tally(outcomes, slices[0].problems),
        "by_level": {part.value: _tally(outcomes, part.problems) for part in slices if part.name == "level"},
        "by_type": {part.value: _tally(outcomes, part.problems) for part in slices if part.name == "type"},
        "tokens": token_figures(outcomes, everything, common),
        "verdicts": {str(verdict): count for verdict, count in zip(VERDICTS, counts, strict=True)},
        "problems_ungradable": int((outcomes.gradable == 0).sum()),
        "failed": int(outcomes.failed.sum()),
        "lengths": _lengths(outcomes),
    }


def _tally(outcomes: Outcomes, problems: Integers) -> dict[str, float | int | None]:
    """Completions: correct of those that could be judged."""
    correct, total = int(outcomes.correct[problems].sum()), int(outcomes.gradable[problems].sum())
    return {"accuracy": correct / total if total else None, "correct": correct, "total": total}


def _lengths(outcomes: Outcomes) -> dict[str, Any]:
    """Histogram of token counts: finished completions by log2 bin, truncated ones as one number."""
    finished = outcomes.n_tokens[~outcomes.failed & ~outcomes.truncated]
    return {
        "bins": _log2_bins(finished.astype(np.float64)),
        "finished": len(finished),
        "truncated": int((outcomes.truncated & ~outcomes.failed).sum()),
    }


def _log2_bins(values: Floats) -> list[dict[str, float | int]]:
    """Counts of positive values in bins whose centres are multiples of 1 / BINS_PER_DOUBLING doublings."""
    places = np.rint(np.log2(values[values > 0]) * BINS_PER_DOUBLING).astype(np.int64)
    bins, counts = np.unique(places, return_counts=True)
    return [
        {"doublings": float(place / BINS_PER_DOUBLING), "count": int(n)} for place, n in zip(bins, counts, strict=True)
    ]


def _contrast(contrast: Contrast, subjects: list[Subject]) -> dict[str, Any]:
    """A contrast with its 2x2 counts and the distribution of its token ratios."""
    by_label = {subject.label: subject.outcomes for subject in subjects}
    first, second = by_label[contrast.first], by_label[contrast.second]
    judged = (first.gradable > 0) & (second.gradable > 0)
    same = judged & (first.share == second.share)
    both = (first.correct > 0) & (second.correct > 0)
    ratios = first.tokens_correct[both] / second.tokens_correct[both]
    return contrast.json() | {
        "same_right": int((same & (first.share >= 0.5)).sum()),
        "same_wrong": int((same & (first.share < 0.5)).sum()),
        "shorter": int((ratios < 1).sum()),
        "longer": int((ratios > 1).sum()),
        "median_ratio": float(np.median(ratios)) if len(ratios) else None,
        "ratios": _log2_bins(ratios),
    }


def finite(value: Any) -> Any:
    """The same JSON value with null for every number that is not finite (JSON has no NaN)."""
    if isinstance(value, dict):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
