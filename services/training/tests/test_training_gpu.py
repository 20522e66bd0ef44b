"""What runs only on a GPU, against slow references in higher precision. Skipped where there is none."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

LENGTHS = [3, 700, 1, 64, 129, 512, 33, 1000, 257]
WORDS, WIDTH = 151_936, 128


def distance(found: Any, expected: Any) -> float:
    """Norm of the difference over the norm of the reference."""
    difference = found.double() - expected.double()
    return float(difference.norm() / expected.double().norm())


@pytest.mark.parametrize("words", [512, 8192, 8193, WORDS])
def test_softmax_kernel_gives_loss_and_gradient_of_a_float64_reference(words: int) -> None:
    from overproof.training.adapters.softmax_kernel import loss_and_gradient

    torch.manual_seed(words)
    logits = (torch.randn(65, words, device="cuda") * 5).bfloat16()
    targets = torch.randint(0, words, (65,), device="cuda")
    exact = logits.double().requires_grad_()
    expected = torch.nn.functional.cross_entropy(exact, targets, reduction="sum")
    expected.backward()
    loss = loss_and_gradient(logits, targets)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert distance(logits, exact.grad) < 5e-3  # one rounding to bfloat16


@pytest.mark.parametrize("kv_heads", [1, 2, 8])
def test_attention_over_packed_rows_is_that_of_each_row_alone(kv_heads: int) -> None:
    from overproof.training.adapters.attention import packed_attention

    torch.manual_seed(kv_heads)
    total = sum(LENGTHS)
    ends = torch.tensor([0, *itertools.accumulate(LENGTHS)], dtype=torch.int32, device="cuda")
    tensors = [torch.randn(1, heads, total, 64, device="cuda").bfloat16() for heads in (8, kv_heads, kv_heads)]
    upstream = torch.randn(1, total, 8, 64, device="cuda").bfloat16()

    def run(inputs: list[Any]) -> tuple[Any, list[Any]]:
        leaves = [one.clone().requires_grad_() for one in inputs]
        output, _ = packed_attention(torch.nn.Module(), *leaves, None, row_ends=ends, longest=max(LENGTHS))
        output.backward(upstream.to(output.dtype))
        return output.detach(), [leaf.grad for leaf in leaves]

    found, gradients = run(tensors)
    expected, references = run([one.double() for one in tensors])
    assert distance(found, expected) < 1e-2
    assert all(distance(one, other) < 2e-2 for one, other in zip(gradients, references, strict=True))


@pytest.mark.parametrize("light", [False, True])
def test_packed_loss_and_gradient_are_those_of_single_rows(light: bool) -> None:
    from transformers import AutoModelForCausalLM, Qwen2Config

    from overproof.training.adapters import attention, lean
    from overproof.training.adapters.collate import collate_packed

    rng = random.Random(0)
    config = Qwen2Config(
        hidden_size=WIDTH, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        vocab_size=4096, tie_word_embeddings=True,
    )  # fmt: skip
    rows = []
    for n in LENGTHS:
        ids = torch.tensor([rng.randrange(4096) for _ in range(n + 2)]).numpy().astype("int32")
        rows.append({"ids": ids, "n_prompt": max(1, n // 4)})

    def run(dtype: Any, name: str, *, fused: bool, batches: list[Any]) -> tuple[float, Any]:
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, attn_implementation=name).to("cuda", dtype)
        if fused:
            lean.fuse_layers(model)
        if fused and light:
            lean.keep_less(model, fused=True)
        assert lean.make_lean(model)
        total = 0.0
        for batch in batches:
            inputs = {key: one.cuda() if torch.is_tensor(one) else one for key, one in batch.items()}
            loss = model(**inputs, num_items_in_batch=1).loss
            loss.backward()
            total += float(loss.detach())
        return total, torch.cat([one.grad.flatten().double() for one in model.parameters()])

    exact, reference = run(torch.float32, "sdpa", fused=False, batches=[_alone(collate_packed([row])) for row in rows])
    loss, gradient = run(torch.bfloat16, attention.register(), fused=True, batches=[collate_packed(rows)])
    assert loss == pytest.approx(exact, rel=2e-3)
    assert distance(gradient, reference) < 3e-2


def test_python_waits_for_nothing_in_a_pass() -> None:
    from transformers import AutoModelForCausalLM, Qwen2Config

    from overproof.training.adapters import attention, lean
    from overproof.training.adapters.collate import collate_packed

    config = Qwen2Config(
        hidden_size=WIDTH, intermediate_size=256, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, vocab_size=4096,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config, attn_implementation=attention.register()).to(
        "cuda", torch.bfloat16
    )
    lean.fuse_layers(model)
    lean.keep_less(model, fused=True)
    assert lean.make_lean(model)
    rows = [{"ids": torch.arange(n + 2).numpy().astype("int32"), "n_prompt": max(1, n // 4)} for n in LENGTHS]
    batch = {key: one.pin_memory() if torch.is_tensor(one) else one for key, one in collate_packed(rows).items()}

    def one_pass() -> None:
        there = {key: one.to("cuda", non_blocking=True) if torch.is_tensor(one) else one for key, one in batch.items()}
        model(**there, num_items_in_batch=100).loss.backward()

    one_pass()  # kernels are compiled
    torch.cuda.set_sync_debug_mode("error")
    try:
        one_pass()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _alone(batch: dict[str, Any]) -> dict[str, Any]:
    return {key: one for key, one in batch.items() if key not in ("row_ends", "longest", "predicting")}
