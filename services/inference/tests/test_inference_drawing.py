"""Drawing tokens: the distribution is the asked one, and a row's draw is its own."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
from overproof.inference.adapters.drawing import draw, uniform  # noqa: E402
from overproof.shared.specs import Sampling  # noqa: E402

VOCABULARY = 40
DRAWS = 20_000
CHI_SQUARE_P_001_DF_39 = 72.05  # a correct sampler exceeds this once in a thousand seeds; this seed is fixed


def reference(logits: np.ndarray, temperature: float, top_k: int, top_p: float) -> np.ndarray:
    """Probabilities after temperature, then the k likeliest, then the nucleus; straight from the definitions."""
    weights = np.exp(logits / temperature)
    order = np.argsort(-weights, kind="stable")
    if top_k:
        weights[order[top_k:]] = 0
    weights /= weights.sum()
    total = 0.0
    for token in order:
        if total >= top_p:
            weights[token] = 0
        total += weights[token]
    return weights / weights.sum()


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, 0, 1.0), (0.7, 0, 1.0), (1.0, 5, 1.0), (1.0, 0, 0.8), (1.3, 12, 0.7), (1.0, 1, 1.0)],
)
def test_frequencies_follow_the_distribution(temperature: float, top_k: int, top_p: float) -> None:
    logits = np.random.default_rng(3).normal(size=VOCABULARY) * 1.5
    sampling = Sampling(temperature=temperature, top_k=top_k, top_p=top_p)
    rows = torch.tensor(logits, dtype=torch.float32).repeat(DRAWS, 1)
    tokens = draw(rows, sampling, list(range(DRAWS)), [5] * DRAWS).tokens
    counts = np.bincount(tokens, minlength=VOCABULARY)
    expected = reference(logits.copy(), temperature, top_k, top_p) * DRAWS
    assert not counts[expected == 0].any()
    seen = expected > 0
    assert ((counts[seen] - expected[seen]) ** 2 / expected[seen]).sum() < CHI_SQUARE_P_001_DF_39


def test_temperature_zero_takes_the_likeliest() -> None:
    logits = torch.randn(50, VOCABULARY, generator=torch.Generator().manual_seed(1))
    assert draw(logits, Sampling(), [0] * 50, [0] * 50).tokens == logits.argmax(-1).tolist()


def test_logprob_is_the_models_own() -> None:
    logits = torch.randn(9, VOCABULARY, generator=torch.Generator().manual_seed(2))
    drawn = draw(logits, Sampling(temperature=0.5, top_k=3), list(range(9)), [0] * 9)
    expected = logits.log_softmax(-1)[torch.arange(9), torch.tensor(drawn.tokens)]
    assert drawn.logprobs == pytest.approx(expected.tolist(), abs=1e-5)


def test_row_draws_the_same_whatever_its_neighbours() -> None:
    logits = torch.randn(30, VOCABULARY, generator=torch.Generator().manual_seed(3))
    sampling = Sampling(temperature=0.9, top_p=0.9)
    together = draw(logits, sampling, list(range(30)), list(range(30))).tokens
    alone = [draw(logits[i : i + 1], sampling, [i], [i]).tokens[0] for i in range(30)]
    assert together == alone


def test_uniform_numbers_are_uniform_over_seeds_and_over_steps() -> None:
    for seeds, steps in ((np.arange(DRAWS), np.zeros(DRAWS)), (np.zeros(DRAWS), np.arange(DRAWS))):
        found = uniform(seeds.astype(np.uint64), steps.astype(np.uint64))
        assert found.min() >= 0
        assert found.max() < 1
        counts = np.histogram(found, bins=VOCABULARY, range=(0, 1))[0]
        expected = DRAWS / VOCABULARY
        assert ((counts - expected) ** 2 / expected).sum() < CHI_SQUARE_P_001_DF_39
        assert abs(np.corrcoef(found[:-1], found[1:])[0, 1]) < 0.03
