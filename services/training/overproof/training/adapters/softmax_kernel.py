"""A Triton kernel: cross-entropy and its gradient, reading each logit twice and writing it once (torch's own steps take five passes)."""

from __future__ import annotations

import torch
import triton  # type: ignore[import-not-found, import-untyped, unused-ignore]
import triton.language as tl  # type: ignore[import-not-found, import-untyped, unused-ignore]

BLOCK = 8192
"""Words per turn of the loop."""
WARPS = 16


@triton.jit  # type: ignore[misc, untyped-decorator, unused-ignore]
def _kernel(logits, targets, losses, stride, words, block: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202 - Triton reads annotations as types
    token = tl.program_id(0).to(tl.int64)
    row = logits + token * stride
    top = float("-inf")
    total = 0.0
    for start in range(0, words, block):
        at = start + tl.arange(0, block)
        x = tl.load(row + at, mask=at < words, other=float("-inf")).to(tl.float32)
        new_top = tl.maximum(top, tl.max(x))
        total = total * tl.exp(top - new_top) + tl.sum(tl.exp(x - new_top))
        top = new_top
    log_sum = top + tl.log(total)
    target = tl.load(targets + token)
    tl.store(losses + token, log_sum - tl.load(row + target).to(tl.float32))
    for start in range(0, words, block):
        at = start + tl.arange(0, block)
        x = tl.load(row + at, mask=at < words, other=float("-inf")).to(tl.float32)
        gradient = tl.exp(x - log_sum) - tl.where(at == target, 1.0, 0.0)
        tl.store(row + at, gradient.to(logits.dtype.element_ty), mask=at < words)


def loss_and_gradient(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The summed loss of logits [tokens, words], which are overwritten with their gradient; targets [tokens]."""
    losses = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    _kernel[(len(logits),)](logits, targets, losses, logits.stride(0), logits.shape[1], block=BLOCK, num_warps=WARPS)
    return losses.sum()
