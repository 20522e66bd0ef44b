"""How many logits exist at once: the output layer is the widest of a student, and a pass of them all can be larger than the student."""

from __future__ import annotations

from overproof.shared.recipe import TrainingOptions

CHUNK = 2048
"""Tokens whose logits are made together where the loss is made in chunks."""
FEW = 2**26
"""Logits (tokens x words) that need no chunks: 0.25 GiB in float32, reached by 440 tokens of a vocabulary of 150,000."""


def in_chunks(options: TrainingOptions, tokens: int, words: int) -> bool:
    """Whether the loss of a pass of `tokens` over a vocabulary of `words` is made in chunks: where rows are packed, and where all
    logits would be many. Depends on nothing of the machine, so that a training rounds alike on each."""
    return options.micro_batch_tokens is not None or tokens * words > FEW


def held(options: TrainingOptions, tokens: int, words: int) -> int:
    """Logits that exist at once."""
    return (min(tokens, CHUNK) if in_chunks(options, tokens, words) else tokens) * words
