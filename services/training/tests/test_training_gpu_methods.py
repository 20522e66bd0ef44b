"""Every method of training on a GPU, from the message to the published student. Skipped where there is none."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from typing import Any

import pytest

from overproof.shared.artifacts import Artifacts
from overproof.shared.recipe import LoraOptions, ProbeOptions
from overproof.shared.specs import TrainSpec
from overproof.shared.worker import Worker
from overproof.training.settings import TrainingSettings

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")

Train = Callable[..., list[dict[str, Any]]]
STEPS = 12
BITS = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None, reason="an extra: overproof-training[bitsandbytes]"
)


@pytest.fixture(scope="module")
def made() -> dict[str, list[dict[str, Any]]]:
    """What was trained: options → lines of the metrics."""
    return {}


@pytest.fixture
def train(
    made: dict[str, list[dict[str, Any]]], artifacts: Artifacts, settings: TrainingSettings, rows: Callable[..., Any], select: Callable[..., str],
    train_spec: Callable[..., TrainSpec], deliver: Callable[[TrainSpec, TrainingSettings], Worker],
) -> Train:  # fmt: skip
    """`train(**options)`: the lines of the metrics of a training that a worker has led to its end, on a GPU."""

    def run(**options: Any) -> list[dict[str, Any]]:
        common = {"dtype": "bfloat16", "max_steps": STEPS, "micro_batch_tokens": 256}
        if str(options) in made:
            return made[str(options)]
        spec = train_spec(select(artifacts, rows()), **(common | options))
        worker = deliver(spec, settings)
        listing = worker.artifacts.listing(spec.ref)
        assert not listing.failed, worker.artifacts.failure(spec.ref, 0)
        assert listing.done == {0}
        receipt = worker.artifacts.receipt(spec.ref, 0)
        assert receipt.notes["device"] == torch.cuda.get_device_name()
        folder = f"{artifacts.folder(spec.ref)}/"
        part = next(one for one in receipt.parts if one.name.endswith("metrics.jsonl"))
        made[str(options)] = [
            json.loads(line) for line in artifacts.files.read(folder + part.name).decode().splitlines()
        ]
        return made[str(options)]

    return run


def losses(lines: list[dict[str, Any]]) -> list[float]:
    return [line["loss"] for line in lines if "loss" in line]


def assert_alike(found: list[float], expected: list[float]) -> None:
    """As bfloat16 allows: what it rounds otherwise in one step is in the weights of all that follow."""
    assert found[:4] == pytest.approx(expected[:4], rel=0.01)
    assert found[-1] == pytest.approx(expected[-1], rel=0.05)


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"micro_batch_tokens": None}, id="padded"),
        pytest.param({"gradient_checkpointing": True}, id="checkpointing"),
        pytest.param({"zero_stage": 0}, id="ZeRO 0"),
        pytest.param({"zero_stage": 2}, id="ZeRO 2"),
        pytest.param({"zero_stage": 3}, id="ZeRO 3"),
        pytest.param({"optimizer": "adamw_8bit"}, id="moments in eight bits", marks=BITS),
        pytest.param({"zero_stage": 2, "offload": "optimizer"}, id="optimizer offloaded"),
        pytest.param({"zero_stage": 3, "offload": "parameters"}, id="parameters offloaded"),
    ],
)
def test_all_ways_to_train_all_weights_have_one_curve(how: dict[str, Any], train: Train) -> None:
    expected, found = losses(train()), losses(train(**how))
    assert len(found) == STEPS
    assert expected[-1] < expected[0] - 0.2
    assert_alike(found, expected)


@pytest.mark.parametrize("quantize", ["none", pytest.param("nf4", marks=BITS)])
def test_adapters_learn_beside_frozen_weights(quantize: Any, train: Train) -> None:
    found = losses(
        train(lora=LoraOptions(rank=8, alpha=16, quantize=quantize), gradient_checkpointing=True, learning_rate=1e-2)
    )
    assert found[-1] < found[0] - 0.3


@pytest.mark.parametrize("stage", [1, 3])
def test_student_writes_while_it_is_trained_and_learns_the_same(stage: int, train: Train) -> None:
    watched = train(probe=ProbeOptions(every_steps=4, problems=4, max_tokens=16), zero_stage=stage)
    steps = [line["step"] for line in watched if "probe_tokens_mean" in line]
    assert steps == [0, 4, 8, 12]
    assert_alike(losses(watched), losses(train(zero_stage=stage)))
