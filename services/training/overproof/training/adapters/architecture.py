"""The student's architecture, built from its config alone: what a process group would meet when it loads the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM

from overproof.training.adapters.foreign import blamed


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
