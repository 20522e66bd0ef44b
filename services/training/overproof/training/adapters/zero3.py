"""ZeRO 3, in which every process holds a piece of each weight."""

from __future__ import annotations

from typing import Any


def fetch_whole_layers(model: Any) -> None:
    """A decoder layer's weights are fetched together, not one matrix after the other, each with hooks before and after it.

    Not for a model with adapters: under DeepSpeed 0.19 its backward then meets weights that are gone already, and fails.
    (DeepSpeed's leaf modules: https://deepspeed.readthedocs.io/en/latest/zero3.html)"""
    from deepspeed.utils import set_z3_leaf_modules

    layers = [*(model._no_split_modules or ())]  # where transformers says that a layer is not to be cut
    set_z3_leaf_modules(model, layers, raise_if_not_found=False)
