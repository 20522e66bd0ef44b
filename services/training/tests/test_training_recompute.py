"""Activations that are made again in backward: the same gradients, and what is no longer kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overproof.training.checkpointing import read_lines
from overproof.training.job import Job

torch: Any = pytest.importorskip("torch")
IDS = [[1, 20, 21, 22, 2, 30, 31, 32, 33, 34]]
OF_A_LAYER = 3 + 2 + 1
"""Matrices that save a norm's output, and the one that saves the feed-forward layer's product."""


def multiply(gate: Any, up: Any) -> Any:
    return torch.nn.functional.silu(gate) * up


def student(models: Path, *, light: bool, rank: int = 0) -> Any:
    from transformers import AutoModelForCausalLM
    from transformers.models.llama.modeling_llama import LlamaMLP

    from overproof.shared.recipe import LoraOptions, TrainingOptions
    from overproof.training.adapters import lora, recompute

    model = AutoModelForCausalLM.from_pretrained(models / "tiny")
    if light:
        recompute.attach(model, LlamaMLP.forward, multiply)
    model = lora.attach(model, TrainingOptions(lora=LoraOptions(rank=rank) if rank else None))
    for name, one in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(one, generator=torch.Generator().manual_seed(len(name)))
    return model


def gradients(model: Any, passes: int = 2) -> dict[str, Any]:
    """Of two passes, so that what the first one left behind would show."""
    for i in range(passes):
        model(input_ids=torch.tensor(IDS) + i, use_cache=False).logits.square().mean().backward()
    return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("rank", [0, 4])
def test_gradients_are_the_same_bit_by_bit(rank: int, models: Path) -> None:
    expected = gradients(student(models, light=False, rank=rank))
    found = gradients(student(models, light=True, rank=rank))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], one) for name, one in expected.items())


@pytest.mark.parametrize("rank", [0, 4])
def test_norms_and_products_are_not_kept(rank: int, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from overproof.training.adapters import recompute

    packed: list[Any] = []
    pack = recompute.Recomputation._pack

    def watched(self: Any, tensor: Any) -> Any:
        packed.append(pack(self, tensor))
        return packed[-1]

    monkeypatch.setattr(recompute.Recomputation, "_pack", watched)
    model = student(models, light=True, rank=rank)
    logits = model(input_ids=torch.tensor(IDS), use_cache=False).logits
    saved = [one for one in packed if isinstance(one, recompute.Saved)]
    assert len(saved) == OF_A_LAYER * model.config.num_hidden_layers
    assert all(one.again.tensor is None for one in saved)
    logits.sum().backward()
    assert all(one.again.tensor is None for one in saved)


def test_nothing_is_remembered_where_nothing_is_trained(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from overproof.training.adapters import recompute

    model = student(models, light=True)
    monkeypatch.setattr(recompute, "Again", None)  # would be called
    with torch.no_grad():
        found = model(input_ids=torch.tensor(IDS)).logits
        assert torch.equal(found, student(models, light=False)(input_ids=torch.tensor(IDS)).logits)
        assert model.generate(torch.tensor(IDS), max_new_tokens=3, do_sample=False).shape[1] > len(IDS[0])


def test_a_selective_training_is_the_plain_one_bit_by_bit(
    make_job: Callable[..., Job], run_job: Callable[..., Job], rows: Callable[..., Any]
) -> None:
    def losses(**options: Any) -> list[float]:
        job = run_job(make_job(rows(), max_steps=4, micro_batch_tokens=256, **options))
        return [line["loss"] for line in read_lines(job.metrics) if "loss" in line]

    assert losses(gradient_checkpointing="selective") == losses()
