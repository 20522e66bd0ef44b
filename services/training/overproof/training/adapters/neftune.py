"""Noise on the embeddings in training (NEFTune, Jain et al. 2023, arXiv 2310.05914).

transformers' own takes a packed row's whole length for the sequence's, which makes the noise several times too small.
"""

from __future__ import annotations

from typing import Any

import torch


def add_noise(model: Any, alpha: float) -> None:
    """In training, add uniform noise of ±alpha / sqrt(tokens x width) to each embedding; tokens are those of its own row
    where rows are packed, else of the padded batch, as the authors have it. In evaluation nothing is added."""
    seen: dict[str, torch.Tensor | None] = {}

    def remember(_: torch.nn.Module, __: Any, inputs: dict[str, Any]) -> None:
        seen["row_ends"] = inputs.get("row_ends")

    def noisy(embedding: torch.nn.Module, _: Any, output: torch.Tensor) -> torch.Tensor:
        if not embedding.training:
            return output
        return output + torch.empty_like(output).uniform_(-1, 1) * _scale(output, seen.get("row_ends"), alpha)

    # on the decoder: adapters call the model's forward past its hooks
    model.base_model.register_forward_pre_hook(remember, with_kwargs=True)
    model.get_input_embeddings().register_forward_hook(noisy)


def _scale(output: torch.Tensor, row_ends: torch.Tensor | None, alpha: float) -> torch.Tensor:
    """output [rows, tokens, width] → [tokens or 1, 1]."""
    _, n, width = output.shape
    tokens = torch.tensor([n], device=output.device) if row_ends is None else row_ends.diff()
    scale = alpha / torch.sqrt(tokens.float() * width)
    each = scale if row_ends is None else scale.repeat_interleave(tokens, output_size=n)
    return each[:, None].to(output.dtype)
