"""Figures of a training: what its steps tell, and what Prometheus shows of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY

from overproof.training.job import Job
from overproof.training.metrics import Follower


def value(name: str, **labels: str) -> float | None:
    """As Prometheus would be told."""
    return REGISTRY.get_sample_value(f"overproof_training_{name}", labels)


def append(path: Path, steps: Iterable[int], **figures: float) -> None:
    with path.open("a") as file:
        for step in steps:
            line = {
                "step": step,
                "steps": 9,
                "loss": 1.0,
                "learning_rate": 0.1,
                "tokens": 100 * step,
                "tokens_per_second": 1.0,
            }
            file.write(json.dumps(line | figures) + "\n")


def tokens_of(look: Callable[[], object]) -> float:
    """Counted while it looks."""
    before = value("tokens_total") or 0.0
    look()
    return (value("tokens_total") or 0.0) - before


def test_every_step_of_every_attempt_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    follower = Follower(path, lambda **_: None)
    append(path, (1, 2, 3))
    assert tokens_of(follower.look) == 300
    append(path, (4,))
    assert tokens_of(follower.look) == 100
    follower = Follower(path, lambda **_: None)  # the next attempt goes on behind the checkpoint of step 2
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:2]))
    assert tokens_of(follower.look) == 0
    append(path, (3, 4))
    assert tokens_of(follower.look) == 200
    path.write_text(
        "".join(path.read_text().splitlines(keepends=True)[:2])
    )  # nodes that start again, beside one worker
    assert tokens_of(follower.look) == 0
    append(path, (3,))
    assert tokens_of(follower.look) == 100


def test_gauges_show_this_training_and_not_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    follower = Follower(path, lambda **_: None)
    append(path, (1,), grad_norm=2.0, mfu=0.4, memory_bytes=7)
    with path.open("a") as file:
        file.write(json.dumps({"step": 1, "probe_n": 3, "probe_tokens_mean": 9.0, "probe_truncated_share": 0.5}) + "\n")
        file.write(json.dumps({"step": 1, "val_loss": 1.5}) + "\n")
    follower.look()
    assert (value("grad_norm"), value("mfu"), value("loss", split="val")) == (2.0, 0.4, 1.5)
    path.unlink()
    follower = Follower(path, lambda **_: None)
    append(path, (1,))
    follower.look()
    assert (value("tokens_per_second"), value("loss", split="train")) == (1.0, 1.0)
    assert value("loss", split="val") is None
    gone = ("grad_norm", "mfu", "memory_bytes", "probe_accuracy", "probe_tokens_mean", "probe_truncated_share")
    assert all(math.isnan(value(name) or 0.0) for name in gone)


def test_gradient_norm_is_told_under_every_stage(
    make_job: Callable[..., Job], run_job: Callable[..., Job], rows: Callable[..., Any]
) -> None:
    norms = []
    for stage in (0, 2):  # in float32 DeepSpeed clips in another place under stage 0
        job = run_job(make_job(rows(16, 0), max_steps=3, zero_stage=stage))
        norms.append([json.loads(line).get("grad_norm") for line in job.metrics.read_text().splitlines()])
    assert norms[0] == pytest.approx(norms[1], rel=1e-4)
    assert min(norms[0]) > 1  # before clipping to 1
