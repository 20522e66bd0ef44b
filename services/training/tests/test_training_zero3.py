"""ZeRO 3: the same training as under ZeRO 1, and nothing in it that holds Python up."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from overproof.training.checkpointing import read_lines
from overproof.training.job import Job


def told(job: Job) -> tuple[list[float], list[float]]:
    """Losses and norms."""
    steps = [line for line in read_lines(job.metrics) if "loss" in line]
    return [one["loss"] for one in steps], [one["grad_norm"] for one in steps]


@pytest.mark.slow
@pytest.mark.parametrize("more", [{}, {"gradient_checkpointing": True}], ids=["all kept", "checkpointing"])
def test_losses_and_norms_are_those_of_zero_1(
    make_job: Callable[..., Job], run_job: Callable[..., Job], rows: Callable[..., Any], more: dict[str, Any]
) -> None:
    # a norm that clips every step: a wrong one would move the losses after it
    options = {"processes": 2, "micro_batch_tokens": 256, "max_grad_norm": 0.05, "max_steps": 5, **more}
    (losses, norms), (expected, expected_norms) = (
        told(run_job(make_job(rows(40, 8), zero_stage=stage, **options))) for stage in (3, 1)
    )
    assert min(expected_norms) > 0.05
    assert len(losses) == 5
    assert losses == pytest.approx(expected, rel=1e-5)
    assert norms == pytest.approx(expected_norms, rel=1e-4)


def test_stream_waits_in_place_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch
    from deepspeed.utils import nvtx

    from overproof.training.adapters.zero3 import go_on_launching

    waits: list[Any] = []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda: SimpleNamespace(wait_stream=waits.append))
    monkeypatch.setattr(nvtx, "enable_nvtx", True)
    stream = SimpleNamespace(synchronize=lambda: pytest.fail("Python waits"))
    go_on_launching(SimpleNamespace(optimizer=SimpleNamespace(reduce_and_partition_stream=stream)))
    stream.synchronize()
    assert waits == [stream]
    assert not nvtx.enable_nvtx
