"""Whether a checkpoint has every weight of its model. vLLM does not miss those of a linear layer, and Transformers makes them up."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

from overproof.inference.adapters.chat import first_line
from overproof.shared.errors import ModelError

NAMED = 3
"""Missing weights that the message names."""


def require_all(folder: Path) -> None:
    """Raises ModelError that names weights which are in no file of the checkpoint.

    The model's own names come from Transformers, on a device without memory. A checkpoint with other names than those
    (quantised, or of a model that Transformers does not know) is left to the engine.
    """
    found, groups = _found(folder), _weights(folder)
    if not groups or not found <= {name for group in groups for name in group}:
        return
    missing = sorted(min(group) for group in groups if not group & found)
    if missing:
        more = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise ModelError(
            f"{folder.name} lacks {len(missing)} of {len(groups)} weights: {', '.join(missing[:NAMED])}{more}.",
            "Restore the checkpoint's files.",
        )


def _found(folder: Path) -> set[str]:
    """The names in its files, by their headers."""
    from safetensors import SafetensorError, safe_open

    found: set[str] = set()
    for path in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(path, framework="pt") as file:
                found.update(file.keys())
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{folder.name}/{path.name} cannot be read: {first_line(error)}", "Restore the checkpoint's files."
            ) from None
    return found


def _weights(folder: Path) -> list[set[str]]:
    """The names of each weight: several, where layers share it. Empty: Transformers does not know the model."""
    from transformers import AutoConfig, AutoModelForCausalLM

    names: dict[int, set[str]] = defaultdict(set)
    with contextlib.suppress(Exception):  # a config that this library cannot build may well be one that vLLM serves
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            model: Any = AutoModelForCausalLM.from_config(config)
        model.tie_weights()
        for name, weight in model.named_parameters(remove_duplicate=False):
            names[id(weight)].add(name)
    return list(names.values())
