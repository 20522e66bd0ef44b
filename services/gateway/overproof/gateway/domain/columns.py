"""Which columns a table needs, whatever they are called in the file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from overproof.gateway.domain.field_errors import FieldError
from overproof.shared.columns import NAMES, column_of

Table = Literal["problems", "completions", "grades", "selected", "questions"]

NEEDED: dict[Table, tuple[tuple[str, ...], ...]] = {
    "problems": (("problem",), ("answer", "solution")),
    "completions": (("problem_id", "problem"), ("text",), ("n_tokens",)),
    "grades": (("problem_id", "problem"), ("verdict",)),
    "selected": (("prompt", "problem"), ("completion", "text")),
    "questions": (("problem",),),
}
"""For each table: columns of which one of each group must be there. A solution whose last box is the answer stands in for it.
Questions are problems some of which have no answer: for training with majority labels."""


def missing_columns(table: Table, present: Collection[str], columns: Mapping[str, str]) -> list[FieldError]:
    """An error for each column that is needed and not `present`, and for each that `columns` promises in vain."""
    errors = [
        FieldError(f"columns.{ours}", f"The data has no column {theirs!r}.", f"It has {_listed(present)}.")
        for ours, theirs in columns.items()
        if theirs not in present
    ]
    mapped = set(columns)
    for group in NEEDED[table]:
        if mapped.isdisjoint(group) and not any(column_of(present, name, columns) for name in group):
            names = [other for name in group for other in NAMES.get(name, (name,))]
            errors.append(
                FieldError(
                    group[0],
                    f"The data has no column {group[0]}.",
                    f"It has {_listed(present)}. Name one of them {' or '.join(dict.fromkeys(names))},"
                    f" or map it: columns: {{{group[0]}: ...}}.",
                )
            )
    return errors


def _listed(present: Collection[str]) -> str:
    shown = [name[:60] for name in sorted(present)[:20]]
    return ", ".join(shown) + (", ..." if len(present) > len(shown) else "") if shown else "none"
