"""Rows become the tensors of a forward pass: padded, or laid end to end."""

from __future__ import annotations

import itertools
from typing import Any

import torch

NO_LOSS = -100
"""torch's cross-entropy leaves labels of this value out."""
PADDING = 0
"""Any id will do: no token attends to padding, and it is not in the loss."""


def collate(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of TokenRows, padded on the right to the longest: input_ids, and labels (of the completion and its end only).

    There is no attention mask: attention is causal, so no token sees the padding behind it, and the kernels without a mask are faster.
    `logits_to_keep` leaves the prompts that all rows share out of the output layer; labels are as wide as the logits.
    """
    width = max(len(row["ids"]) for row in rows)
    kept = (
        width - min(row["n_prompt"] for row in rows) + 1
    )  # from the last prompt token on, which predicts the first supervised one
    ids = torch.full((len(rows), width), PADDING, dtype=torch.long)
    labels = torch.full_like(ids, NO_LOSS)
    for i, row in enumerate(rows):
        n, tokens = len(row["ids"]), torch.from_numpy(row["ids"].astype("int64"))
        ids[i, :n] = tokens
        labels[i, row["n_prompt"] : n] = tokens[row["n_prompt"] :]
    return {"input_ids": ids, "labels": labels[:, -kept:], "logits_to_keep": kept}


def collate_packed(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows of TokenRows laid end to end in one: input_ids, position_ids that begin anew with each row, labels [1, tokens],
    for `packed_attention` row_ends [rows + 1] and the longest row's tokens, and for the loss `predicting`: the places before supervised
    tokens, which only a CPU finds without waiting."""
    lengths = [len(row["ids"]) for row in rows]
    ids = torch.cat([torch.from_numpy(row["ids"].astype("int64")) for row in rows])
    labels = ids.clone()
    ends = torch.tensor([0, *itertools.accumulate(lengths)], dtype=torch.int32)
    for start, row in zip(ends.tolist(), rows, strict=False):
        labels[start : start + row["n_prompt"]] = NO_LOSS  # a row's last token does not predict the next row's first
    positions = torch.cat([torch.arange(n) for n in lengths])
    packed = {"input_ids": ids[None], "position_ids": positions[None], "labels": labels[None]}
    predicting = (labels[1:] != NO_LOSS).nonzero().flatten()
    return packed | {"row_ends": ends, "longest": max(lengths), "predicting": predicting}
