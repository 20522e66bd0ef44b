"""Gradient checkpointing of whole layers: the form that Python launches sooner, where it gives the same gradients."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from overproof.shared.packable import KEEPS_ROWS_APART
from overproof.shared.recipe import LoraOptions
from overproof.training.adapters import activations, attention
from overproof.training.checkpointing import read_lines
from overproof.training.job import Job

SMALL = {
    "vocab_size": 384, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


def small(kind: str, **more: Any) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **SMALL, **more)
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation=attention.register())


def gradients(model: Any) -> dict[str, Any]:
    """Of every weight, after one pass over two packed rows."""
    import numpy as np

    from overproof.training.adapters.collate import collate_packed

    rng = np.random.default_rng(0)
    rows = [{"ids": rng.integers(3, 380, n).astype(np.int32), "n_prompt": n // 3} for n in (9, 40)]
    model(**collate_packed(rows), use_cache=False).loss.backward()
    return {name: one.grad for name, one in model.named_parameters()}


@pytest.mark.parametrize("kind", sorted(KEEPS_ROWS_APART))
def test_every_weight_gets_the_gradient_that_it_gets_without(kind: str) -> None:
    import torch

    kept, again = small(kind), small(kind)
    how = activations.checkpointing_of(again)
    assert how["use_reentrant"]
    assert not how["preserve_rng_state"]
    again.activation_checkpointing_enable(activation_checkpointing_kwargs=how)
    entered = []
    again.model.layers[0].mlp.register_forward_hook(lambda *_: entered.append(torch.is_grad_enabled()))
    expected, found = gradients(kept.train()), gradients(again.train())
    assert entered == [False, True]  # nothing recorded in the first pass
    for name, one in expected.items():
        assert (found[name] is None) == (one is None), name
        assert one is None or torch.equal(found[name], one), name


@pytest.mark.parametrize(
    ("kind", "more", "reentrant", "draws"),
    [
        ("qwen2", {}, True, False),
        ("qwen2", {"attention_dropout": 0.1}, True, True),
        ("mixtral", {"router_jitter_noise": 0.01}, True, True),
        ("mixtral", {"output_router_logits": True}, False, False),
        ("stablelm", {}, False, False),
        ("gpt2", {}, False, True),  # its dropout is 0.1 unless it says otherwise
    ],
)
def test_who_is_computed_again_how(kind: str, more: dict[str, Any], reentrant: bool, draws: bool) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SMALL, **more))
    assert activations.checkpointing_of(model) == {"use_reentrant": reentrant, "preserve_rng_state": draws}


def test_adapters_with_dropout_draw() -> None:
    from peft import LoraConfig, get_peft_model

    adapted = [
        get_peft_model(small("qwen2"), LoraConfig(r=2, lora_dropout=p, target_modules="all-linear")) for p in (0.0, 0.1)
    ]
    found = [activations.checkpointing_of(one) for one in adapted]
    assert [one["preserve_rng_state"] for one in found] == [False, True]
    assert all(one["use_reentrant"] for one in found)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"zero_stage": 0},
        {"zero_stage": 2, "deepspeed": {"zero_optimization": {"overlap_comm": False}}},
        {"zero_stage": 2, "offload": "optimizer"},
        {"zero_stage": 3, "offload": "parameters"},
        {"zero_stage": 3, "lora": LoraOptions(rank=4)},
        {"zero_stage": 3, "micro_batch_size": 2, "micro_batch_tokens": None},
    ],
    ids=["zero 0", "zero 2 of DeepSpeed", "optimizer offloaded", "parameters offloaded", "adapters", "padded"],
)
def test_training_is_the_same_with_layers_computed_again(
    make_job: Callable[..., Job], run_job: Callable[..., Job], rows: Callable[..., Any], options: dict[str, Any]
) -> None:
    options = {"processes": 2, "micro_batch_tokens": 128, "global_batch_size": 16, "max_steps": 3} | options
    found, expected = (
        [
            figure
            for line in read_lines(run_job(make_job(rows(40, 8), gradient_checkpointing=again, **options)).metrics)
            if "loss" in line
            for figure in (line["loss"], line["grad_norm"])
        ]
        for again in (True, False)
    )
    assert len(found) == 6
    assert found == pytest.approx(expected, rel=1e-5)
