"""Attention for rows that are laid end to end: no token sees a row that is not its own.

On a GPU in half precision this is torch's FlashAttention over variable lengths; elsewhere each row goes through
scaled_dot_product_attention by itself, with a mask only where a sliding window is shorter than the row. Neither costs more than the
rows would alone.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch.nn import functional
from transformers import AttentionInterface

from overproof.shared.errors import ModelError

NAME = "overproof_packed"
"""As transformers knows it: `attn_implementation`."""


def register() -> str:
    """Make the attention known to transformers, which then makes no mask; returns its name."""
    AttentionInterface.register(NAME, packed_attention)
    return NAME


def describe(dtype: str) -> str:
    """For the log: what computes attention on this machine."""
    if torch.cuda.is_available() and dtype == "bfloat16":
        return "FlashAttention over variable lengths (torch)"
    return "scaled_dot_product_attention, row by row"


def packed_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: None,
    *,
    scaling: float | None = None,
    row_ends: torch.Tensor | None = None,
    longest: int = 0,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each row.

    query [1, heads, tokens, width], key and value [1, kv heads, tokens, width]; row_ends [rows + 1] int32: 0 and where each
    row ends; longest: tokens of the longest row; sliding_window: tokens that a token sees, itself among them. Returns [1, tokens, heads, width].
    Raises ModelError for an architecture that does not hand the ends on.
    """
    if row_ends is None:
        raise ModelError(
            f"{type(module).__name__} does not tell its attention where packed rows end.",
            "Leave training.micro_batch_tokens out: rows are padded then.",
        )
    window = sliding_window if sliding_window is not None and sliding_window < longest else None
    if query.is_cuda and query.dtype in (torch.bfloat16, torch.float16):
        return _varlen(query, key, value, row_ends, longest, scaling, window), None
    pieces = [
        _one_row(query[:, :, a:b], key[:, :, a:b], value[:, :, a:b], scaling, window)
        for a, b in itertools.pairwise(row_ends.tolist())
    ]
    return torch.cat(pieces, dim=2).transpose(1, 2), None


def _one_row(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scaling: float | None, window: int | None
) -> torch.Tensor:
    n = query.shape[2]
    mask = None
    if window is not None and window < n:
        mask = torch.ones(n, n, dtype=torch.bool, device=query.device).tril().triu(1 - window)
    return functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=mask is None, scale=scaling, enable_gqa=True
    )


def _varlen(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    ends: torch.Tensor,
    longest: int,
    scaling: float | None,
    window: int | None,
) -> torch.Tensor:
    # the operation below torch.nn.attention.varlen, whose Python signature changed from release to release
    flat = [tensor.squeeze(0).transpose(0, 1) for tensor in (query, key, value)]
    left = -1 if window is None else window - 1
    found = torch.ops.aten._flash_attention_forward(
        *flat, ends, ends, longest, longest, 0.0, True, False, scale=scaling, window_size_left=left, window_size_right=0
    )
    output: torch.Tensor = found[0]
    return output.unsqueeze(0)
