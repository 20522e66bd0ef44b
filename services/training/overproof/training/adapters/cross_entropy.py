"""Output layer and cross-entropy in one, over a few thousand tokens at a time: the logits of all tokens never exist together.

The gradients are made in the forward pass, while a chunk's logits are there, and written over them (as Liger's fused linear
cross-entropy does). Only supervised tokens are looked at. Chunks are large, since every chunk reads and writes the weight's
whole gradient: with 2,048 tokens and 150,000 words a chunk's logits take 0.6 GB in bfloat16.
"""

from __future__ import annotations

from typing import Any

import torch

from overproof.training.domain.logits import CHUNK


class LinearCrossEntropy(torch.autograd.Function):  # type: ignore[misc]
    """sum over tokens of -log softmax(hidden @ weight.T)[target]."""

    @staticmethod
    def forward(context: Any, hidden: torch.Tensor, weight: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """hidden [tokens, width], weight [words, width], targets [tokens]; returns a scalar in float32."""
        wants_hidden, wants_weight, _ = context.needs_input_grad
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros_like(weight) if wants_weight else None
        total = torch.zeros((), dtype=torch.float32, device=hidden.device)
        for start in range(0, len(hidden), CHUNK):
            piece = slice(start, start + CHUNK)
            logits = hidden[piece] @ weight.T
            total += _loss_and_gradient(logits, targets[piece])
            if grad_hidden is not None:
                torch.mm(logits, weight, out=grad_hidden[piece])
            if grad_weight is not None:
                grad_weight.addmm_(logits.T, hidden[piece])
        context.grads = (grad_hidden, grad_weight)
        return total

    @staticmethod
    def backward(context: Any, *grads: torch.Tensor) -> tuple[torch.Tensor | None, torch.Tensor | None, None]:
        """Scale what the forward pass made."""
        (scale,), (grad_hidden, grad_weight) = grads, context.grads
        context.grads = None
        return (
            None if grad_hidden is None else grad_hidden.mul_(scale),
            None if grad_weight is None else grad_weight.mul_(scale),
            None,
        )


def _loss_and_gradient(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The summed loss of a chunk; its logits [tokens, words] are overwritten with their gradient."""
    if logits.is_cuda:
        from overproof.training.adapters import softmax_kernel

        return softmax_kernel.loss_and_gradient(logits, targets)
    log_probabilities = torch.log_softmax(logits.float(), dim=-1)
    loss = -log_probabilities.gather(1, targets[:, None]).sum()
    gradient = log_probabilities.exp_()
    gradient.scatter_add_(1, targets[:, None], torch.full_like(targets[:, None], -1.0, dtype=gradient.dtype))
    logits.copy_(gradient)
    return loss
