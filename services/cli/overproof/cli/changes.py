"""Verdicts that changed because completions were graded again."""

from __future__ import annotations

from typing import Any, NamedTuple

from overproof.cli.output import Output
from overproof.cli.views import RunView


class Move(NamedTuple):
    """How many completions went from one verdict to another."""

    completions: str
    before: str
    after: str
    n: int


def show(output: Output, run: RunView) -> None:
    """Old verdict → new verdict with counts, and where the rows are; nothing for a run that graded nothing again."""
    counts = verdicts(run)
    if counts is None:
        return
    changed, total = moves(counts), sum(n for rows in counts.values() for row in rows.values() for n in row.values())
    output.text()
    if not changed:
        output.text(f" graded again: all {total:,} verdicts are as before")
        return
    output.text(f" graded again: {sum(move.n for move in changed):,} of {total:,} verdicts changed")
    rows = [(f" {move.completions}", move.before, move.after, f"{move.n:,}") for move in changed]
    output.table((" completions", "before", "now", "how many"), rows)
    output.next(f"overproof cp {run.run_id}:changes changes.csv")


def verdicts(run: RunView) -> dict[str, dict[str, dict[str, int]]] | None:
    """Label of the completions → verdict before → verdict now → how many; None when nothing was graded again."""
    found: Any = next((stage.notes.get("verdicts") for stage in run.stages if stage.stage == "changes"), None)
    return found if isinstance(found, dict) else None


def moves(counts: dict[str, dict[str, dict[str, int]]]) -> list[Move]:
    """What changed, by completions, then the most frequent first."""
    found = [
        Move(label, before, after, n)
        for label, rows in counts.items()
        for before, row in rows.items()
        for after, n in row.items()
        if before != after
    ]
    return sorted(found, key=lambda move: (move.completions, -move.n, move.before, move.after))
