"""Checks whose result stops a run before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from overproof.pipeline.domain.nodes import Node
from overproof.shared.runs import RunError


def gate_error(node: Node, notes: Mapping[str, Any], on_ungradable: str) -> RunError | None:
    """The error of a check of gold answers that found unreadable ones, unless the recipe says to keep them."""
    unreadable = int(notes.get("unreadable", 0))
    if not unreadable or on_ungradable == "keep":
        return None
    examples = str(notes.get("example", ""))
    return RunError(
        stage=node.label,
        kind="DatasetError",
        message=f"{unreadable} gold answers cannot be read{f', e.g. {examples}' if examples else ''}.",
        remedy="Mend them, or set data.on_ungradable: keep to count their rows as ungradable.",
    )
