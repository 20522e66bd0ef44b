"""Next tokens out of logits, each row with randomness of its own: a sample does not depend on its neighbours in the batch.

One uniform number per sample and step comes from a counter-based generator (SplitMix64, Steele, Lea and Flood 2014) and is
looked up in the cumulated distribution.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from overproof.shared.specs import Sampling

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
BITS_OF_A_DOUBLE = 53


class Drawn(NamedTuple):
    """One token per row."""

    tokens: list[int]
    logprobs: list[float]
    """Natural log-probabilities at temperature 1, before top_p and top_k."""


def uniform(seeds: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Numbers in [0, 1), one for each (seed, step): uint64 arrays of equal shape → float64."""
    z = seeds + (steps + np.uint64(1)) * GOLDEN
    z = (z ^ (z >> np.uint64(30))) * MIX_1
    z = (z ^ (z >> np.uint64(27))) * MIX_2
    z = z ^ (z >> np.uint64(31))
    return np.asarray((z >> np.uint64(64 - BITS_OF_A_DOUBLE)) * 2.0**-BITS_OF_A_DOUBLE, np.float64)


def draw(logits: torch.Tensor, sampling: Sampling, seeds: list[int], steps: list[int]) -> Drawn:
    """One token for each row of `logits` (rows, vocabulary), at the sampling's temperature, top_k and top_p."""
    logits = logits.float()
    if sampling.temperature == 0:
        tokens = logits.argmax(-1, keepdim=True)
    else:
        points = uniform(np.array(seeds, np.uint64), np.array(steps, np.uint64))
        probabilities = (logits / sampling.temperature).softmax(-1)
        tokens = _look_up(probabilities, torch.from_numpy(points).to(logits.device)[:, None], sampling)
    logprobs = logits.gather(-1, tokens) - logits.logsumexp(-1, keepdim=True)
    return Drawn(tokens[:, 0].tolist(), logprobs[:, 0].tolist())


def _look_up(probabilities: torch.Tensor, points: torch.Tensor, sampling: Sampling) -> torch.Tensor:
    if not sampling.top_k and sampling.top_p >= 1:
        return _invert(probabilities, points)
    ordered, tokens = probabilities.sort(dim=-1, descending=True, stable=True)
    if sampling.top_k:
        ordered[:, sampling.top_k :] = 0
        ordered /= ordered.sum(-1, keepdim=True)
    if sampling.top_p < 1:  # the likeliest tokens until their sum reaches top_p; the first one always stays
        ordered[ordered.cumsum(-1) - ordered >= sampling.top_p] = 0
    return tokens.gather(-1, _invert(ordered, points))


def _invert(probabilities: torch.Tensor, points: torch.Tensor) -> torch.Tensor:
    """Where the cumulated (not necessarily normalised) probabilities pass each point."""
    cumulated = probabilities.cumsum(-1, dtype=torch.float64)
    found = torch.searchsorted(cumulated, points * cumulated[:, -1:], right=True)
    return found.clamp(max=probabilities.shape[-1] - 1)
