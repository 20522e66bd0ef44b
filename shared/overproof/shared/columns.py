"""Names that people give to the columns of a data set, and how ours is found among them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

NAMES: dict[str, tuple[str, ...]] = {
    "problem": ("problem", "question", "prompt", "statement", "input"),
    "answer": ("answer", "final_answer", "expected_answer", "gold", "target"),
    "solution": ("solution", "rationale", "worked_solution"),
    "level": ("level", "difficulty"),
    "type": ("type", "subject", "category"),
    "text": ("text", "completion", "solution", "output", "response", "generation"),
    "n_tokens": ("n_tokens", "num_tokens", "tokens"),
}
"""The first found wins; a recipe's `columns` goes before them."""


def pick(values: Mapping[str, Any], name: str, columns: Mapping[str, str]) -> Any:
    """The value of our column `name`, by the mapping or by a name that people use; None when there is none."""
    if name in columns:
        return values.get(columns[name])
    return next((values[other] for other in NAMES.get(name, (name,)) if values.get(other) is not None), None)


def column_of(present: Collection[str], name: str, columns: Mapping[str, str]) -> str | None:
    """Which of the columns `present` is our column `name`; None when there is none."""
    if name in columns:
        return columns[name] if columns[name] in present else None
    return next((other for other in NAMES.get(name, (name,)) if other in present), None)
