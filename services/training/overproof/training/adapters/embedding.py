"""Whether weights are whole and a token's embedding was ever trained, read from their files without loading a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from overproof.shared.errors import ModelError
from overproof.training.adapters.foreign import blamed

NAMES = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight")
SAMPLED = 256
"""Rows that say how long an embedding usually is."""
UNTRAINED = 0.05
"""An embedding shorter than this share of the median was never trained, or next to never."""


def check_weights(student: Path, vocab_size: int | None) -> None:
    """Raises ModelError for what would not load: a file of weights that is cut short, or another number of embedding rows than
    `config.json` says."""
    for file in sorted(student.glob("model*.safetensors")):
        with _opened(file):
            pass
    found = _table(student)
    if found is None or vocab_size is None:
        return
    file, name = found
    with _opened(file) as weights:
        n_rows = weights.get_slice(name).get_shape()[0]
    if n_rows != vocab_size:
        raise ModelError(
            f"{student.name} has {n_rows} embedding rows, and its config.json says vocab_size {vocab_size}.",
            "Take config and weights of one checkpoint.",
        )


def is_untrained(student: Path, token: int) -> bool:
    """Whether the embedding of `token` is next to zero beside the others; False where the embedding is not found."""
    found = _table(student)
    if found is None:
        return False
    file, name = found
    with _opened(file) as weights:
        rows = weights.get_slice(name)
        n_rows, _ = rows.get_shape()
        step = max(1, n_rows // SAMPLED)
        lengths = torch.stack([rows[row : row + 1].float().norm() for row in range(0, n_rows, step)])
        mine = rows[token : token + 1].float().norm()
    return bool(mine < UNTRAINED * lengths.median())


def _opened(file: Path) -> Any:
    """The header is read now, and compared with the file's length."""
    with blamed(f"{file.parent.name}/{file.name} is damaged or cut short", "Copy the file again, whole."):
        return safe_open(file, "pt")


def _table(student: Path) -> tuple[Path, str] | None:
    """File and name of the embedding."""
    for file in sorted(student.glob("*.safetensors.index.json")):
        names = json.loads(file.read_text())["weight_map"]
        return next(((student / where, name) for name, where in names.items() if name.endswith(NAMES)), None)
    for file in sorted(student.glob("*.safetensors")):
        with _opened(file) as weights:
            for name in weights.keys():  # noqa: SIM118 - no mapping
                if name.endswith(NAMES):
                    return file, name
    return None
