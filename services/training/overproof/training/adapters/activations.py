"""Gradient checkpointing of whole decoder layers: which of torch's two forms computes them again, and what it has to keep."""

from __future__ import annotations

from typing import Any

import torch

from overproof.shared.packable import KEEPS_ROWS_APART


def checkpointing_of(model: Any) -> dict[str, Any]:
    """The keyword arguments of `torch.utils.checkpoint.checkpoint` for a model.

    The reentrant form records nothing of the first pass and hooks no tensor, so Python launches a layer sooner (docs/benchmarks.md, several
    GPUs); but a gradient reaches only what is handed to a layer by position and returned by it: so it is for architectures whose layers are
    known, and not where a router's loss is wanted, which leaves its layer on the side. The state of the random generators is kept where a
    layer draws numbers. (https://docs.pytorch.org/docs/stable/checkpoint.html)
    """
    config = model.config.get_text_config()
    reentrant = config.model_type in KEEPS_ROWS_APART and not getattr(config, "output_router_logits", False)
    return {"use_reentrant": reentrant, "preserve_rng_state": _draws(model, config)}


def _draws(model: Any, config: Any) -> bool:
    """Whether there is dropout (in modules, or by the configuration's word), or noise at a router."""
    modules = any(isinstance(one, torch.nn.Dropout) and one.p > 0 for one in model.modules())
    return modules or any(_is_noise(name, value) for name, value in config.to_dict().items())


def _is_noise(name: str, value: Any) -> bool:
    return ("drop" in name or "jitter" in name) and isinstance(value, float | int) and value > 0
