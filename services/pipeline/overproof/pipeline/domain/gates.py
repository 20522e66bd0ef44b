"""Checks whose result stops a run before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from overproof.pipeline.domain.nodes import Node
from overproof.shared.recipe import Recipe
from overproof.shared.runs import RunError


def gate_error(node: Node, notes: Mapping[str, Any], recipe: Recipe, *, is_trained_on: bool) -> RunError | None:
    """The error of a check of gold answers that found unreadable ones, unless the recipe says to keep them."""
    unreadable = int(notes.get("unreadable", 0))
    if not unreadable or recipe.data.on_ungradable == "keep":
        return None
    labelled = is_trained_on and recipe.has_majority_labels
    kept = "have the teacher's clear majority label them" if labelled else "count their rows as ungradable"
    examples = str(notes.get("example", ""))
    return RunError(
        stage=node.label,
        kind="DatasetError",
        message=f"{unreadable} gold answers cannot be read{f', e.g. {examples}' if examples else ''}.",
        remedy=f"Mend them, or set data.on_ungradable: keep to {kept}.",
    )
