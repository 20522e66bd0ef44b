"""Packed rows on several processes: the same loss as padded ones, resumed alike, and a whole checkpoint at every stage."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overproof.training.checkpointing import read_lines
from overproof.training.job import Job, Result

PACKED = {"micro_batch_tokens": 256, "global_batch_size": 8}


def curve(job: Job) -> list[float]:
    return [line["loss"] for line in read_lines(job.metrics) if "loss" in line]


@pytest.fixture
def trained(make_job: Callable[..., Job], run_job: Callable[..., Job], rows: Callable[..., Any]) -> Callable[..., Job]:
    return lambda **options: run_job(make_job(rows(40, 8), **{"max_steps": 4, "save_every_steps": 2, **options}))


def test_zero_3_fetches_decoder_layers_whole(models: Path) -> None:
    from deepspeed.utils import get_z3_leaf_modules
    from transformers import AutoModelForCausalLM

    from overproof.training.adapters.zero3 import fetch_whole_layers

    model = AutoModelForCausalLM.from_pretrained(models / "tiny")
    fetch_whole_layers(model)
    assert len(model.model.layers) == 2
    assert get_z3_leaf_modules(model) == [*model.model.layers]


@pytest.mark.slow
def test_two_processes_packed_train_as_one_and_export_everything(trained: Callable[..., Job]) -> None:
    from safetensors.torch import load_file

    alone = trained(**PACKED, zero_stage=0)
    assert "model.embed_tokens.weight" in (
        expected := load_file(alone.checkpoints / "checkpoint-4" / "model.safetensors")
    )
    assert "lm_head.weight" not in expected, "tied to the embedding"
    for stage, offload in ((1, "none"), (3, "none"), (3, "parameters")):  # stage 2 below
        job = trained(**PACKED, processes=2, zero_stage=stage, offload=offload)
        assert curve(job) == pytest.approx(curve(alone), rel=1e-4), f"ZeRO {stage}"
        found = load_file(job.checkpoints / "checkpoint-4" / "model.safetensors")
        assert found.keys() == expected.keys()
        for name, one in found.items():
            assert float((one - expected[name]).abs().max()) < 1e-3, f"ZeRO {stage}: {name}"


@pytest.mark.slow
def test_packed_steps_of_two_processes_have_the_loss_of_padded_ones(trained: Callable[..., Job]) -> None:
    # which rows make a step differs, so the only step is one that holds every row
    every_row = {"global_batch_size": 40, "max_steps": 1, "zero_stage": 1, "processes": 2}
    packed, padded = (trained(**every_row, **way) for way in ({"micro_batch_tokens": 1024}, {"micro_batch_size": 4}))
    assert curve(packed) == pytest.approx(curve(padded), rel=1e-5)
    after = [Result.model_validate_json(job.result.read_bytes()).val_loss for job in (packed, padded)]
    assert after[0] == pytest.approx(after[1], rel=1e-5)


@pytest.mark.slow
def test_packed_group_resumes_bit_by_bit(trained: Callable[..., Job], run_job: Callable[..., Job]) -> None:
    job = trained(**PACKED, processes=2, zero_stage=2)
    end, expected = job.checkpoints / "checkpoint-4", curve(job)
    weights = (end / "model.safetensors").read_bytes()
    shutil.rmtree(end)
    job.result.unlink()
    run_job(job, job.checkpoints / "checkpoint-2")
    assert (end / "model.safetensors").read_bytes() == weights
    assert curve(job)[-2:] == expected[-2:]
