"""Gradients and weights that travel behind arithmetic: the numbers are DeepSpeed's own, and nobody uses a weight before it is there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed, nn

from overproof.shared.recipe import LoraOptions, TrainingOptions
from overproof.training.adapters import exchange
from overproof.training.checkpointing import read_lines
from overproof.training.domain.deepspeed_config import exchanges_early
from overproof.training.domain.groups import UNDERWAY
from overproof.training.job import Job

OWN = {"zero_optimization": {"overlap_comm": False}}
"""Any configuration of DeepSpeed's: it exchanges by itself then."""
PASSES = {"micro_batch_tokens": 128, "global_batch_size": 16, "dtype": "bfloat16"}
"""Several per step."""


class Work:
    """Of a collective operation: whether somebody has waited for it."""

    def __init__(self) -> None:
        self.awaited = False

    def wait(self) -> None:
        self.awaited = True


class Model(nn.Module):
    """Embedding, two layers in a list, a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(3, 2)
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(2, 2)), nn.Sequential(nn.Linear(2, 2))])
        self.norm = nn.LayerNorm(2)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids)
        for layer in self.layers:
            x = layer(x)
        return self.norm(x)


@pytest.fixture
def second_of_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "get_rank", lambda: 1)
    monkeypatch.setattr(distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(distributed, "new_group", lambda: None)


def watched(model: Model) -> tuple[exchange.Exchange, dict[int, Work]]:
    """Groups: the embedding, each layer, the norm; the weights of all of them are underway."""
    groups = [[*part.parameters()] for part in (model.embedding, *model.layers, model.norm)]
    found = exchange.Exchange(SimpleNamespace(module=model, optimizer=SimpleNamespace(bit16_groups=groups)))
    works = {i: Work() for i in range(len(groups))}
    found._weights = dict(works)
    found.watch(model)
    return found, works


def awaited(works: dict[int, Work]) -> list[int]:
    return [i for i, work in works.items() if work.awaited]


@pytest.mark.usefixtures("second_of_two")
def test_each_part_of_a_model_waits_for_its_own_weights() -> None:
    model = Model()
    _, works = watched(model)
    seen = []
    model.layers[0].register_forward_hook(lambda *_: seen.append(awaited(works)))
    model(torch.tensor([0, 1]))
    assert seen == [[0, 1]]
    assert awaited(works) == [0, 1, 2, 3]


@pytest.mark.usefixtures("second_of_two")
def test_gradients_of_few_groups_are_on_their_way_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    works = []

    def add_in_parts(*_: Any, **__: Any) -> Work:
        works.append(Work())
        return works[-1]

    monkeypatch.setattr(exchange, "_add_in_parts", add_in_parts)
    weights = [[nn.Parameter(torch.zeros(4))] for _ in range(5)]
    zero = SimpleNamespace(
        bit16_groups=weights, round_robin_bit16_groups=weights, round_robin_bit16_offsets=[[0]] * 5,
        bit16_groups_flat=[one.data for (one,) in weights], partition_gradients=True,
    )  # fmt: skip
    model = nn.ParameterList([one for (one,) in weights])
    found = exchange.Exchange(SimpleNamespace(module=model, optimizer=zero))
    for (weight,) in reversed(weights):
        weight.grad = torch.ones(4)
        found._gradient_made(next(i for i, group in enumerate(weights) if group[0] is weight), weight)
        assert len(found._gradients) <= UNDERWAY
    assert [work.awaited for work in works] == [True, True, True, False, False]
    assert sorted(found._parts) == [2, 3, 4]


@pytest.mark.usefixtures("second_of_two")
def test_whoever_saves_the_weights_waits_for_all() -> None:
    model = Model()
    _, works = watched(model)
    model.state_dict()
    assert awaited(works) == [0, 1, 2, 3]


def test_every_weight_is_watched_over_once() -> None:
    model = Model()
    found = [one for _, weights in exchange._units(model) for one in weights]
    assert len(found) == len(set(found))
    assert set(found) == set(model.parameters())


def test_step_counters_lie_where_the_weights_are() -> None:
    weight = torch.zeros(2, device="meta", requires_grad=True)
    optimizer = torch.optim.AdamW([weight])
    optimizer.state[weight] = {"step": torch.tensor(3.0)}
    exchange.counters_beside_weights(optimizer)
    assert optimizer.state[weight]["step"].device.type == "meta"


@pytest.mark.parametrize(
    ("options", "early"),
    [
        ({"zero_stage": 1}, True),
        ({"zero_stage": 2}, True),
        ({"zero_stage": 0}, False),
        ({"zero_stage": 3}, False),
        ({"zero_stage": 2, "offload": "optimizer"}, False),
        ({"zero_stage": 1, "deepspeed": OWN}, False),
    ],
)
def test_who_exchanges(options: dict[str, Any], early: bool) -> None:
    assert exchanges_early(TrainingOptions(**options)) is early


def told(job: Job) -> list[tuple[float, float]]:
    return [(line["loss"], line["grad_norm"]) for line in read_lines(job.metrics) if "loss" in line]


def weights_of(job: Job, step: int) -> bytes:
    path: Path = next((job.checkpoints / f"checkpoint-{step}").glob("*model.safetensors"))
    return path.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"zero_stage": 1, "processes": 2, "micro_batch_size": 2},
        {"zero_stage": 1, "processes": 2, "gradient_checkpointing": True, **PASSES},
        {"zero_stage": 2, "processes": 2, **PASSES},
        {"zero_stage": 1, "processes": 2, "micro_batch_size": 4, "lora": LoraOptions(rank=4)},
        {"zero_stage": 1, **PASSES},
        {"zero_stage": 1, "processes": 2, "optimizer": "adamw_8bit", **PASSES},
    ],
    ids=["zero 1", "zero 1 packed", "zero 2 packed", "adapters", "one process", "eight bits"],
)
def test_numbers_are_those_of_deepspeed_bit_by_bit(
    make_job: Callable[..., Job], run_job: Callable[..., Job], rows: Callable[..., Any], options: dict[str, Any]
) -> None:
    early, own = (
        run_job(make_job(rows(40, 8), max_steps=4, save_every_steps=4, **options, **more))
        for more in ({}, {"deepspeed": OWN})
    )
    assert len(told(early)) == 4
    assert told(early) == told(own)
    assert weights_of(early, 4) == weights_of(own, 4)
    several = options.get("processes", 1) > 1
    said = [json.loads(job.setup.read_text())["exchange"] for job in (early, own)]
    assert said == (["behind arithmetic", "DeepSpeed's own"] if several else [None, None])
