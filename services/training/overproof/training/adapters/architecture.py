"""The student's architecture, built from its config alone: what a process group would meet when it loads the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import safe_open
from transformers import AutoConfig, AutoModelForCausalLM

from overproof.shared.errors import ModelError
from overproof.training.adapters.foreign import blamed

NAMED = 3
"""Weights that a message names."""


def built(student: Path) -> Any:
    """The model without its weights, on torch's `meta` device. Raises ModelError when transformers cannot build it."""
    with (
        blamed(
            f"transformers {transformers.__version__} cannot build {student.name} from its config.json",
            "Mend the config, update transformers in the training service, or take a causal language model that it knows.",
        ),
        torch.device("meta"),
    ):
        return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(str(student), local_files_only=True))


def check_complete(student: Path, model: Any) -> None:
    """Raises ModelError when the files lack a weight of the model (`built`), or have it in another shape: transformers would train on random
    numbers in its place. No weight is read."""
    with blamed(
        f"transformers {transformers.__version__} cannot match the weights of {student.name} with its config.json",
        "Export the student again, config and weights together.",
    ):
        _, found = type(model).from_pretrained(
            None, config=model.config, state_dict=_outlines(student), device_map="meta", output_loading_info=True, ignore_mismatched_sizes=True,
        )  # fmt: skip
    wrong = [f"{name} {list(there)} instead of {list(wanted)}" for name, there, wanted in found["mismatched_keys"]]
    if missing := sorted(found["missing_keys"]) or sorted(wrong):
        others = f" and {len(missing) - NAMED} more" if len(missing) > NAMED else ""
        raise ModelError(
            f"The weights of {student.name} are not those of its config.json ({model.config.model_type}): "
            f"{'missing' if found['missing_keys'] else 'of another shape'}: {', '.join(missing[:NAMED])}{others}.",
            "Export the student again, config and weights together.",
        )


def _outlines(student: Path) -> dict[str, torch.Tensor]:
    """Every weight in the files, without its content."""
    found = {}
    for file in sorted(student.glob("model*.safetensors")):
        with safe_open(file, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118 - it is not a dictionary
                found[name] = torch.empty(weights.get_slice(name).get_shape(), device="meta")
    return found
