"""Checks whose result stops a run before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from overproof.pipeline.domain.nodes import Node
from overproof.shared.recipe import Recipe
from overproof.shared.runs import RunError

MAX_NAMED = 5
"""Rows in one message; the table of checks has them all."""


def gate_error(node: Node, notes: Mapping[str, Any], recipe: Recipe, *, is_trained_on: bool) -> RunError | None:
    """The error of a check of gold answers that found unreadable ones, unless the recipe says to keep them."""
    unreadable = int(notes.get("unreadable", 0))
    if not unreadable or recipe.data.on_ungradable == "keep":
        return None
    labelled = is_trained_on and recipe.has_majority_labels
    kept = "have the teacher's clear majority label them" if labelled else "count their rows as ungradable"
    examples: Mapping[str, str] = notes.get("examples", {})
    named = [f"{source} ({reason})" for source, reason in sorted(examples.items(), key=_by_line)[:MAX_NAMED]]
    rest = unreadable - len(named)
    named += [f"{rest} more" for _ in range(bool(named and rest))]
    return RunError(
        stage=node.label,
        kind="DatasetError",
        message=f"{unreadable} gold answers cannot be read{': ' if named else ''}{', '.join(named)}.",
        remedy=f"Mend them, or set data.on_ungradable: keep to {kept}.",
    )


def _by_line(example: tuple[str, str]) -> tuple[str, int]:
    """`train.jsonl:17` after `train.jsonl:9`."""
    name, _, line = example[0].rpartition(":")
    return name, int(line) if line.isdecimal() else 0
