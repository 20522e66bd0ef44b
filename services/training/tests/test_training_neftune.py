"""Noise on the embeddings: as large as the paper says, by each row's own length, and in training only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

ALPHA = 5.0


@pytest.fixture
def noisy(models: Path) -> Any:
    """(model, what its embedding puts out)."""
    import torch
    from transformers import AutoModelForCausalLM

    from overproof.training.adapters import attention
    from overproof.training.adapters.neftune import add_noise

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(models / "tiny", attn_implementation=attention.register())
    add_noise(model, ALPHA)
    seen: list[Any] = []
    model.get_input_embeddings().register_forward_hook(lambda _, __, output: seen.append(output.detach()))
    return model, seen


def noise(model: Any, seen: list[Any], **inputs: Any) -> Any:
    import torch

    with torch.no_grad():
        model.train()(**inputs, use_cache=False)
        model.eval()(**inputs, use_cache=False)
        bare = model.get_input_embeddings().weight[inputs["input_ids"]]
    in_training, in_evaluation = seen
    assert torch.equal(in_evaluation, bare)
    return (in_training - bare).abs()


def test_padded_rows_get_the_noise_of_their_width(noisy: Any) -> None:
    import torch

    model, seen = noisy
    model.set_attn_implementation("sdpa")
    found = noise(model, seen, input_ids=torch.randint(3, 380, (2, 50)))
    bound = ALPHA / (50 * 64) ** 0.5
    assert 0.95 * bound < float(found.max()) <= bound
    assert float(found.mean()) == pytest.approx(bound / 2, rel=0.05)


def test_packed_rows_get_the_noise_of_their_own_length(noisy: Any) -> None:
    import torch

    model, seen = noisy
    lengths = [10, 90]
    found = noise(
        model,
        seen,
        input_ids=torch.randint(3, 380, (1, 100)),
        position_ids=torch.cat([torch.arange(n) for n in lengths])[None],
        row_ends=torch.tensor([0, 10, 100], dtype=torch.int32),
        longest=90,
    )[0]
    for rows, n in ((found[:10], 10), (found[10:], 90)):
        bound = ALPHA / (n * 64) ** 0.5
        assert 0.9 * bound < float(rows.max()) <= bound
