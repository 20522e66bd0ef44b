"""Students of other architectures: packed rows stay apart, and the loss made in chunks is the loss over all logits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overproof.shared.errors import ModelError, RecipeError
from overproof.shared.packable import KEEPS_ROWS_APART, check_packing
from overproof.shared.recipe import TrainingOptions
from overproof.training.adapters import architecture, attention, lean
from overproof.training.domain.logits import CHUNK, FEW, held, in_chunks
from overproof.training.job import Job

SMALL = {
    "vocab_size": 384, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 128, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


SCALED = {"granite": {"logits_scaling": 8.0}, "cohere2": {"logit_scale": 0.25}}


@pytest.fixture(scope="module")
def batches() -> tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]:
    """The same rows packed, padded, and each alone."""
    import numpy as np

    from overproof.training.adapters.collate import collate, collate_packed

    rng = np.random.default_rng(0)
    rows = [{"ids": rng.integers(3, 380, n).astype(np.int32), "n_prompt": n // 3} for n in (9, 40, 3, 17)]
    return collate_packed(rows), collate(rows), [collate([row]) for row in rows]


def two_of(kind: str, **more: Any) -> tuple[Any, Any]:
    """One model with the library's attention and the same with ours. `more`: fields of its config."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    plain, packing = (
        AutoModelForCausalLM.from_config(
            AutoConfig.for_model(kind, **SMALL, **SCALED.get(kind, {}), **more), dtype=torch.float32, **how
        ).eval()
        for how in ({}, {"attn_implementation": attention.register()})
    )
    packing.load_state_dict(plain.state_dict())
    return plain, packing


@pytest.mark.parametrize("kind", sorted(KEEPS_ROWS_APART))
def test_packed_rows_have_the_loss_of_single_ones(
    kind: str, batches: tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]
) -> None:
    packed, padded, singles = batches
    plain, packing = two_of(kind)
    n = sum(int((one["labels"][:, 1:] != -100).sum()) for one in singles)
    expected = sum(float(plain(**one, num_items_in_batch=n).loss.detach()) for one in singles)
    found = [packing(**packed, use_cache=False, num_items_in_batch=n)]
    assert lean.make_lean(plain)
    assert lean.make_lean(packing)
    found += [packing(**packed, num_items_in_batch=n), plain(**padded, num_items_in_batch=n)]
    assert found[1].logits is None
    assert [float(one.loss.detach()) for one in found] == pytest.approx([expected] * len(found), rel=1e-5)


def test_window_shorter_than_a_row_is_kept_to_within_it(
    batches: tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]],
) -> None:
    packed, _, singles = batches
    plain, packing = two_of("mistral", sliding_window=5)
    n = sum(int((one["labels"][:, 1:] != -100).sum()) for one in singles)
    found = float(packing(**packed, use_cache=False, num_items_in_batch=n).loss.detach())
    expected = sum(float(plain(**one, num_items_in_batch=n).loss.detach()) for one in singles)
    assert found == pytest.approx(expected, rel=1e-5)
    for layer in packing.model.layers:
        layer.self_attn.sliding_window = packing.config.sliding_window = None
    without = float(packing(**packed, use_cache=False, num_items_in_batch=n).loss.detach())
    assert abs(without - expected) > 1e-4


@pytest.mark.parametrize("kind", sorted(KEEPS_ROWS_APART))
def test_norms_of_one_kernel_are_the_librarys(kind: str) -> None:
    import torch

    plain, fused = two_of(kind)
    changed = lean.fuse_norms(fused)
    assert bool(changed) == (kind not in {"cohere2", "gemma", "gemma3_text", "olmo", "starcoder2"})
    others = dict(fused.named_modules())
    for name, norm in plain.named_modules():
        if not hasattr(norm, "variance_epsilon"):
            continue
        weight = torch.randn(norm.weight.shape)
        norm.weight.data, others[name].weight.data = weight, weight.clone()
        hidden = 5 * torch.randn(2, 3, *weight.shape)
        torch.testing.assert_close(others[name](hidden), norm(hidden))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", sorted(KEEPS_ROWS_APART | {"gpt2", "gpt_neox", "nemotron", "qwen3_moe"}))
def test_whole_student_lacks_no_weight(kind: str, tied: bool, tmp_path: Path) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, **SMALL, tie_word_embeddings=tied)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path, max_shard_size="50KB")
    architecture.check_complete(tmp_path, architecture.built(tmp_path))


@pytest.mark.parametrize(
    ("kind", "more"),
    [("gemma3_text", {"final_logit_softcapping": 30.0}), ("mixtral", {"output_router_logits": True}), ("nemotron", {})],
)
def test_loss_that_is_more_than_the_product_stays_the_librarys(kind: str, more: dict[str, Any]) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **SMALL, **more))
    forward = model.forward
    assert not lean.make_lean(model)
    assert model.forward == forward


@pytest.mark.parametrize("kind", ["stablelm", "nemotron"])
def test_architecture_that_keeps_the_ends_to_itself_is_refused_not_trained_over_them(
    kind: str, batches: tuple[dict[str, Any], dict[str, Any], list[dict[str, Any]]]
) -> None:
    with pytest.raises(RecipeError, match=f"in a student of type {kind} they are not known to stay apart"):
        check_packing(kind)
    with pytest.raises(ModelError, match="does not tell its attention where packed rows end"):
        two_of(kind)[1](**batches[0], use_cache=False)


def test_only_a_few_logits_exist_at_once() -> None:
    padded, packed = TrainingOptions(), TrainingOptions(micro_batch_tokens=8192)
    assert not in_chunks(padded, 4000, 768)
    assert in_chunks(padded, 450, 151_936)
    assert in_chunks(packed, 16, 16)
    for words in (768, 32_000, 151_936, 262_144):
        assert all(held(padded, tokens, words) <= max(FEW, CHUNK * words) for tokens in range(1, 40_000, 77))


@pytest.mark.slow
def test_padded_rows_in_chunks_train_as_over_all_logits(
    make_job: Callable[..., Job], run_job: Callable[..., Job], rows: Callable[..., Any], monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:  # fmt: skip
    from overproof.training.checkpointing import read_lines

    (tmp_path / "sitecustomize.py").write_text("from overproof.training.domain import logits\nlogits.FEW = 0\n")
    curves, said = [], []
    for stage in (1, 3):
        job = make_job(rows(), max_steps=3, processes=2, micro_batch_size=4, zero_stage=stage)
        for path in ("", str(tmp_path)):
            monkeypatch.setenv("PYTHONPATH", path)
            run_job(job)
            said.append(json.loads(job.setup.read_text())["loss"])
            curves.append([line["loss"] for line in read_lines(job.metrics) if "loss" in line])
            job.metrics.unlink()
    assert said == ["over all logits", "in chunks"] * 2
    for one in curves[1:]:
        assert one == pytest.approx(curves[0], rel=1e-5)
