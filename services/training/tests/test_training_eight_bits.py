"""AdamW whose moments have eight bits: it learns as AdamW does, under every ZeRO stage, and says what it cannot."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from overproof.shared.errors import RecipeError, UserError
from overproof.shared.recipe import TrainingOptions
from overproof.training import universal
from overproof.training.adapters import machine
from overproof.training.checkpointing import read_lines
from overproof.training.domain import estimate
from overproof.training.job import Job

EIGHT = {"optimizer": "adamw_8bit"}
STEPS = 12


def losses(job: Job) -> list[float]:
    return [line["loss"] for line in read_lines(job.metrics) if "loss" in line]


@pytest.fixture
def curve(
    make_job: Callable[..., Job], run_job: Callable[..., Job], rows: Callable[..., Any]
) -> Callable[..., list[float]]:
    """`curve(**options)`: the losses of a short training."""
    return lambda **options: losses(run_job(make_job(rows(40, 8), max_steps=STEPS, learning_rate=3e-3, **options)))


@pytest.mark.slow
def test_it_learns_as_adamw_does_at_every_stage(curve: Callable[..., list[float]]) -> None:
    pytest.importorskip("bitsandbytes", reason="an extra: overproof-training[bitsandbytes]")
    expected = curve()
    assert expected[-1] < expected[0] - 0.2
    for how in ({}, {"zero_stage": 0}, {"zero_stage": 2, "processes": 2}, {"zero_stage": 3}):
        found = curve(**EIGHT, **how)
        assert found != expected
        assert found == pytest.approx(expected, rel=0.02), how


def test_moments_take_two_bytes_a_weight() -> None:
    whole, eight = (
        estimate.memory_of(
            estimate.Sizes(28, 1536, 1536, 256, 8960, 151936),
            1_543_714_304,
            TrainingOptions(**more),
            8192,
            1,
            fused=True,
        )
        for more in ({}, EIGHT)
    )
    assert (whole.optimizer - eight.optimizer) / 1_543_714_304 == pytest.approx(6, abs=0.05)


def test_recipe_says_what_keeps_moments_on_the_cpu() -> None:
    with pytest.raises(ValueError, match="leave offload out"):
        TrainingOptions(zero_stage=2, offload="optimizer", **EIGHT)


def test_worker_without_the_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    machine.check_optimizer(TrainingOptions())
    monkeypatch.setattr(machine, "find_spec", lambda _: None)
    with pytest.raises(RecipeError, match="adamw_8bit needs bitsandbytes") as refused:
        machine.check_optimizer(TrainingOptions(**EIGHT))
    assert "training.optimizer: adamw." in refused.value.remedy


def test_checkpoint_is_for_as_many_processes_as_made_it(make_job: Callable[..., Job], rows: Callable[..., Any]) -> None:
    job = make_job(rows(8, 2), **EIGHT)
    with pytest.raises(UserError, match="moments of adamw_8bit"):
        universal.convert(job, job.checkpoints / "checkpoint-5")


def test_recipes_without_it_keep_their_keys() -> None:
    assert "optimizer" not in TrainingOptions().model_dump()


@pytest.mark.parametrize(
    ("options", "imported"),
    [({}, False), (EIGHT, True), ({"lora": {"rank": 4, "quantize": "nf4"}}, True), ({"lora": {"rank": 4}}, False)],
)
def test_library_is_imported_only_where_it_is_used(options: dict[str, Any], imported: bool) -> None:
    pytest.importorskip("bitsandbytes", reason="an extra: overproof-training[bitsandbytes]")
    program = (
        "import json, sys; from overproof.shared.recipe import TrainingOptions; from overproof.training.setup import leave_out_unused;"
        "leave_out_unused(TrainingOptions(**json.loads(sys.argv[1]))); import peft; print(bool(sys.modules.get('bitsandbytes')))"
    )
    command = [sys.executable, "-c", program, json.dumps(options)]
    said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert said.split()[-1] == str(imported)
