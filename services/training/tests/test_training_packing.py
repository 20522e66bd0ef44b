"""Packed rows give the loss and the gradient of single rows, and the same steps on any number of processes."""

from __future__ import annotations

import itertools
import random
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from overproof.shared.errors import RecipeError
from overproof.shared.recipe import TrainingOptions
from overproof.training.domain.batches import Batch
from overproof.training.domain.compute import Shape, peak_flops, step_flops
from overproof.training.domain.order import validation_batches
from overproof.training.domain.packing import PackedBatches, rows_per_step, steps_of_rows

LENGTHS = [min(400, max(8, round(random.Random(i).lognormvariate(4, 0.8)))) for i in range(300)]


def options(**values: Any) -> TrainingOptions:
    return TrainingOptions(**({"max_length": 400, "micro_batch_tokens": 512, "global_batch_size": 32} | values))


@pytest.mark.parametrize("more", [{}, {"global_batch_tokens": 4096}])
@pytest.mark.parametrize("processes", [1, 2, 4])
def test_a_step_is_the_same_rows_on_any_number_of_processes(more: dict[str, int], processes: int) -> None:
    some = options(processes=processes, **more)
    shares = [PackedBatches(LENGTHS, some, 20, rank) for rank in range(processes)]
    passes = shares[0].fill.passes
    lists = [list(share) for share in shares]
    assert {len(one) for one in lists} == {20 * passes}
    assert all(one and sum(LENGTHS[row] for row in one) <= 512 for share in lists for one in share)
    for step, expected in enumerate(steps_of_rows(LENGTHS, some, 20)):
        mine = [one for share in lists for one in share[step * passes : (step + 1) * passes]]
        assert sorted(itertools.chain.from_iterable(mine)) == sorted(expected)


def test_tokens_per_step_are_kept_to_and_every_row_comes_once_per_epoch() -> None:
    some = options(global_batch_tokens=2048)
    steps = list(steps_of_rows(LENGTHS, some, 200))
    assert all(sum(LENGTHS[row] for row in rows) <= 2048 for rows in steps)
    assert sorted(list(itertools.chain.from_iterable(steps))[:300]) == list(range(300))
    assert 1 < rows_per_step(LENGTHS, some) < 60
    assert rows_per_step(LENGTHS, options()) == 32


def test_too_few_rows_for_the_processes_are_refused() -> None:
    with pytest.raises(RecipeError, match="cannot be shared by 4 processes"):
        PackedBatches(LENGTHS, options(processes=4, global_batch_size=3), 5, 0)


@pytest.mark.parametrize(
    "values", [{"micro_batch_tokens": 399}, {"micro_batch_tokens": None, "global_batch_tokens": 999}]
)
def test_sizes_that_do_not_fit_are_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="micro_batch_tokens"):
        options(**values)


def test_patience_without_validations_is_refused() -> None:
    with pytest.raises(ValueError, match="evaluations_per_epoch 0 makes none"):
        TrainingOptions(patience=2, evaluations_per_epoch=0)


def test_packed_validation_counts_each_row_once() -> None:
    shares = [validation_batches(LENGTHS, Batch(1, 3, 1), rank, 512) for rank in range(3)]
    assert len({len(share) for share in shares}) == 1
    assert sorted(row for share in shares for rows, counts in share if counts for row in rows) == list(range(300))


def test_arithmetic_is_counted_by_hand() -> None:
    # two rows; 6 per weight and token, 4 where weights are frozen, attention 6 x layers x width x n^2
    assert step_flops(Shape(100, 10, 3), [4, 2], [1, 1]) == 6 * (100 * 6 + 10 * 4) + 6 * 3 * (16 + 4)
    assert step_flops(Shape(100, 10, 0, 0.0), [4], [0]) == 4 * 110 * 4
    assert peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert peak_flops("abacus") is None


@pytest.fixture
def batches() -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Some rows packed, and each alone."""
    import numpy as np

    from overproof.training.adapters.collate import collate, collate_packed

    rng = np.random.default_rng(0)
    rows = [{"ids": rng.integers(3, 380, n).astype(np.int32), "n_prompt": n // 3} for n in (9, 40, 3, 17)]
    return collate_packed(rows), [collate([row]) for row in rows]


def test_packed_loss_and_gradient_equal_those_of_single_rows(
    models: Path, batches: tuple[dict[str, Any], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from overproof.training.adapters import attention, cross_entropy, lean

    monkeypatch.setattr(cross_entropy, "CHUNK", 7)
    packed, singles = batches
    plain = AutoModelForCausalLM.from_pretrained(models / "tiny")
    n = sum(int((one["labels"][:, 1:] != -100).sum()) for one in singles)
    expected = sum(plain(**one, num_items_in_batch=n).loss for one in singles)
    expected.backward()
    fast = AutoModelForCausalLM.from_pretrained(models / "tiny", attn_implementation=attention.register())
    full = fast(**packed, use_cache=False, num_items_in_batch=n).loss
    assert lean.make_lean(fast)
    found = fast(**packed, num_items_in_batch=n).loss
    found.backward()
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert float(full.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    for (name, one), (_, other) in zip(plain.named_parameters(), fast.named_parameters(), strict=True):
        assert torch.allclose(one.grad, other.grad, atol=1e-6, rtol=1e-4), name


def test_validation_makes_no_gradient_of_the_output_layer(
    models: Path, batches: tuple[dict[str, Any], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    from overproof.training.adapters import attention, lean

    def unwanted(*_: Any, **__: Any) -> None:
        raise AssertionError("a gradient that nobody asked for")

    model = AutoModelForCausalLM.from_pretrained(models / "tiny", attn_implementation=attention.register())
    lean.make_lean(model)
    expected = float(model(**batches[0]).loss.detach())
    monkeypatch.setattr(torch, "zeros_like", unwanted)  # the output layer's
    monkeypatch.setattr(torch, "mm", unwanted)  # its input's
    with torch.no_grad():
        assert float(model(**batches[0]).loss) == expected


WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "unique")
"""Operations whose result Python needs, or whose size: a GPU has to be done before they return."""


def test_nothing_in_a_pass_waits_for_the_gpu(
    models: Path, batches: tuple[dict[str, Any], list[dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from transformers import AutoModelForCausalLM

    from overproof.training.adapters import attention, lean

    seen = []

    class Listener(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = str(func)
            masks = args[1] if name.startswith("aten.index") else []
            by_mask = (
                any(getattr(one, "dtype", None) == torch.bool for one in masks) if isinstance(masks, list) else False
            )
            if by_mask or any(one in name for one in WAITS):
                seen.append(name)
            return func(*args, **(kwargs or {}))

    def one_row(*tensors: Any, **_: Any) -> Any:  # on a CPU rows are cut apart by Python
        return torch.nn.functional.scaled_dot_product_attention(*tensors[:3], enable_gqa=True).transpose(1, 2)

    monkeypatch.setattr(attention, "packed_attention", lambda _, *tensors, **more: (one_row(*tensors, **more), None))
    model = AutoModelForCausalLM.from_pretrained(models / "tiny", attn_implementation=attention.register())
    assert lean.make_lean(model)
    with Listener():
        model(**batches[0], num_items_in_batch=40).loss.backward()
    assert seen == []
    unaware = {name: one for name, one in batches[0].items() if name != "predicting"}
    with Listener():
        model(**unaware, num_items_in_batch=40)
    assert len(seen) == 2, "the listener hears nothing"
    monkeypatch.undo()
    attention.register()
