"""Verdicts before and after completions were graded again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from overproof.reporting.domain import wording
from overproof.shared.topology import Verdict

Counts = dict[str, dict[str, dict[str, int]]]
"""Label of the completions → verdict before → verdict now → how many."""

KEPT = ("problem_id", "sample")
PAIRED = ("verdict", "extracted", "gold", "method", "reason", "grader")


def is_same_completion(old: Mapping[str, Any] | None, new: Mapping[str, Any] | None) -> bool:
    """Whether two rows of GRADES are of one completion; None stands for a row that is missing."""
    return old is not None and new is not None and all(old[name] == new[name] for name in KEPT)


def changed_row(old: Mapping[str, Any], new: Mapping[str, Any], label: str) -> dict[str, Any]:
    """A row of CHANGES."""
    paired = {f"{name}_before": old[name] for name in PAIRED} | {name: new[name] for name in PAIRED}
    return {name: new[name] for name in KEPT} | paired | {"completions": label}


class Move(NamedTuple):
    """How many completions went from one verdict to another."""

    completions: str
    before: str
    after: str
    n: int


def moves(counts: Counts) -> list[Move]:
    """All that changed, by completions, then the most frequent first."""
    found = [
        Move(label, before, after, n)
        for label, rows in counts.items()
        for before, row in rows.items()
        for after, n in row.items()
        if before != after
    ]
    return sorted(found, key=lambda move: (list(counts).index(move.completions), -move.n, move.before, move.after))


def answer(counts: Counts) -> str:
    """One sentence."""
    total = sum(n for rows in counts.values() for row in rows.values() for n in row.values())
    changed = moves(counts)
    if not changed:
        return f"All {wording.plural(total, 'verdict')} are as before."
    n = sum(move.n for move in changed)
    won = sum(move.n for move in changed if move.after == Verdict.CORRECT)
    lost = sum(move.n for move in changed if move.before == Verdict.CORRECT)
    return (
        f"{n:,} of {wording.plural(total, 'verdict')} changed: {won:,} became correct, {lost:,} are correct no more; "
        "the completions are the same, nothing was sampled again."
    )


def how(graders: Mapping[str, Any]) -> str:
    """What differs between the gradings, each difference once: `Before: grader 2, strict false; now: grader 2, strict true.`

    Reads: label → before, after → grader, options.
    """
    said = []
    for made in graders.values():
        before, after = ({"grader": one["grader"], **one["options"]} for one in (made["before"], made["after"]))
        names = [name for name in {**before, **after} if name == "grader" or before.get(name) != after.get(name)]
        said.append(f"Before: {_settings(before, names)}; now: {_settings(after, names)}.")
    return " ".join(dict.fromkeys(said))


def _settings(made: Mapping[str, Any], names: list[str]) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {json.dumps(made.get(name)).strip(chr(34))}" for name in names)
