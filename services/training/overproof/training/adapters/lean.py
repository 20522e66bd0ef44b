"""Makes a causal language model take packed rows and return their loss without ever holding all logits."""

from __future__ import annotations

import logging
from types import MethodType
from typing import Any

import torch
from transformers.modeling_outputs import CausalLMOutput

from overproof.shared.packable import KEEPS_ROWS_APART
from overproof.training.adapters import recompute
from overproof.training.adapters.cross_entropy import LinearCrossEntropy

log = logging.getLogger(__name__)

NO_LOSS = -100
LINEAR = KEEPS_ROWS_APART
"""Model types whose logits are the output layer's product, at most times a number, unless the config says more (`_is_linear`): the same
ones as can be packed, as the tests hold."""


def make_lean(model: Any) -> bool:
    """Fuse the output layer with the loss where the architecture is known to allow it; returns whether it does."""
    head = model.get_output_embeddings()
    if not _is_linear(model.config) or head.bias is not None:
        return False
    # the loss is made inside the layer's own forward: ZeRO 3 has its weight only there
    head.forward = MethodType(_head_loss, head)
    model.forward = MethodType(_forward, model)
    return True


def _is_linear(config: Any) -> bool:
    """Whether there is no soft cap on the logits, and no loss beside theirs."""
    capped = getattr(config, "final_logit_softcapping", None) is not None
    balanced = getattr(config, "output_router_logits", False)
    return config.model_type in LINEAR and not capped and not balanced


def _scale(config: Any) -> float:
    """What the product is multiplied by."""
    scales = {"granite": lambda: 1 / config.logits_scaling, "cohere2": lambda: config.logit_scale}
    return float(scales.get(config.model_type, lambda: 1.0)())


def fuse_layers(model: Any) -> bool:
    """Liger's kernels for rotary embedding and the gated layer, where they are installed, and torch's for norms; returns whether they are used."""
    try:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance  # type: ignore[import-not-found, unused-ignore]
    except ImportError:
        return False
    norms = fuse_norms(model)  # Python launches them sooner than Liger's
    _apply_liger_kernel_to_instance(
        model=model, rms_norm=not norms, cross_entropy=False, fused_linear_cross_entropy=False
    )
    return True


def fuse_norms(model: Any) -> int:
    """One kernel of torch for each norm that is x / rms(x) · weight, as they are called RMSNorm with a `variance_epsilon` throughout
    transformers (Gemma's, with weight + 1, are not); returns how many there are."""
    norms = [
        one for one in model.modules() if type(one).__name__.endswith("RMSNorm") and hasattr(one, "variance_epsilon")
    ]
    for norm in norms:
        norm.forward = MethodType(_norm, norm)
    return len(norms)


def _norm(norm: Any, hidden: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.rms_norm(hidden, norm.weight.shape, norm.weight, norm.variance_epsilon)


def keep_less(model: Any, *, fused: bool) -> None:
    """Compute cheap activations again (`recompute`); without Liger's kernels those of norms only: torch would keep both factors of the
    gated product, and the activation too."""
    if not fused:
        recompute.attach(model, None, torch.mul)
        return
    from liger_kernel.transformers.swiglu import (  # type: ignore[import-not-found, unused-ignore]
        LigerSwiGLUMLP,
        _swiglu_dispatch,
    )

    recompute.attach(model, LigerSwiGLUMLP.forward, _swiglu_dispatch)


def _head_loss(head: torch.nn.Linear, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    weight = head.weight
    if (
        not torch.is_grad_enabled()
    ):  # else the operation makes gradients in its forward pass, also where nobody wants them
        hidden, weight = hidden.detach(), weight.detach()
    loss: torch.Tensor = LinearCrossEntropy.apply(hidden, weight, targets)
    return loss


def _forward(
    model: Any,
    input_ids: torch.Tensor,
    labels: torch.Tensor,
    num_items_in_batch: Any = None,
    predicting: torch.Tensor | None = None,
    **inputs: Any,
) -> CausalLMOutput:
    """The loss: a sum divided by `num_items_in_batch`, or the mean. labels [rows, tokens] belong to the same token's input; predicting
    [supervised tokens]: the places before them in the only row, where they are known: a GPU that has to look for them lets Python wait."""
    inputs.pop("logits_to_keep", None)
    outputs = model.base_model(
        input_ids=input_ids, use_cache=False, **inputs
    )  # with a cache, packed rows see each other
    hidden, targets = _supervised(outputs.last_hidden_state, labels, predicting)
    if (scale := _scale(model.config)) != 1:
        hidden = hidden * scale
    loss = model.get_output_embeddings()(hidden, targets)
    return CausalLMOutput(loss=loss / (len(targets) if num_items_in_batch is None else num_items_in_batch))


def _supervised(
    hidden: torch.Tensor, labels: torch.Tensor, predicting: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """What predicts the supervised tokens [tokens, width], and those [tokens]."""
    if predicting is not None:
        return hidden[0].index_select(0, predicting), labels[0].index_select(0, predicting + 1)
    width = labels.shape[1]  # the labels of a padded batch may be narrower than its inputs
    targets = labels[:, 1:]
    supervised = targets != NO_LOSS
    return hidden[:, -width:-1][supervised], targets[supervised]
