"""Figures of a step are read while the next one is made, and stand where they always stood."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from overproof.training.adapters.tokens import TokenRows
from overproof.training.checkpointing import read_lines
from overproof.training.domain.batches import schedule_of
from overproof.training.domain.order import supervised
from overproof.training.job import Job

torch: Any = pytest.importorskip("torch")
PACKED = {"micro_batch_tokens": 256}


def test_figures_are_those_of_when_they_were_sent() -> None:
    from overproof.training.adapters import late

    loss = torch.tensor(2.5)
    found = late.sent(7, 0.5, loss=loss, grad_norm=None, learning_rate=1e-5)
    loss.zero_()
    assert (found.step, found.epoch) == (7, 0.5)
    assert found.ended <= time.monotonic()
    assert found.read() == {"loss": 2.5, "learning_rate": 1e-5}


def test_speed_is_that_of_the_step_not_of_its_telling(
    make_job: Callable[..., Job], rows: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import TrainerControl, TrainerState

    from overproof.training.adapters import journal

    monkeypatch.setattr(journal, "time", SimpleNamespace(monotonic=lambda: 100.0))
    job = make_job(rows(8, 2), max_steps=3)
    ended = iter([101.0, 103.0, 107.0])
    told = journal.Journal(job, schedule_of(job.options, 8, 2), [0, 80, 160, 240], [1.0] * 3, 1, lambda: next(ended))
    state, control = TrainerState(max_steps=3, is_world_process_zero=True), TrainerControl()
    told.on_train_begin(None, state, control)
    for step in (1, 2, 3):
        state.global_step = step
        told.on_log(None, state, control, {"loss": 1.0, "learning_rate": 0.1})
    lines = read_lines(job.metrics)
    assert [line["tokens_per_second"] for line in lines] == [80.0, 40.0, 20.0]
    assert [line["seconds"] for line in lines] == [1.0, 3.0, 7.0]


@pytest.mark.parametrize("options", [{}, PACKED], ids=["padded", "packed"])
def test_supervised_tokens_of_a_step_are_those_in_its_labels(
    options: dict[str, Any], make_job: Callable[..., Job], rows: Callable[..., Any]
) -> None:
    from overproof.training import fit
    from overproof.training.adapters.collate import NO_LOSS, collate, collate_packed

    job = make_job(rows(40, 8), max_steps=6, **options)
    train = TokenRows(job.scratch, "train")
    order, batch = fit._order(job, train, schedule_of(job.options, len(train), 8))
    passes = [(collate_packed if options else collate)([train[row] for row in one]) for one in order]
    in_labels = [int((one["labels"][:, 1:] != NO_LOSS).sum()) for one in passes]
    n = batch.accumulation
    steps = [sum(in_labels[start : start + n]) for start in range(0, len(passes), n)]
    assert len(set(steps)) > 1
    assert steps == supervised(order.steps(), train.lengths, train.prompts)


def test_lines_of_the_metrics_are_in_order(
    make_job: Callable[..., Job], run_job: Callable[..., Job], rows: Callable[..., Any]
) -> None:
    job = run_job(make_job(rows(40, 8), max_steps=12, save_every_steps=4, evaluations_per_epoch=1, **PACKED))
    lines = [(line["step"], "loss" in line) for line in read_lines(job.metrics)]
    validated = [step for step, trained in lines if not trained]
    assert len(validated) >= 2
    expected = [(step, True) for step in range(1, 13)] + [(step, False) for step in validated]
    assert lines == sorted(expected, key=lambda one: (one[0], not one[1]))
