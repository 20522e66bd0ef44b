"""A training begins only where its checkpoints have room."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from overproof.shared.errors import StorageUnavailable
from overproof.shared.recipe import LoraOptions, TrainingOptions
from overproof.training import disk
from overproof.training.disk import check_disk
from overproof.training.domain.estimate import checkpoint_bytes
from overproof.training.job import Job

N = 1000
EACH = 16 * N


class Usage(NamedTuple):
    free: int


@pytest.fixture
def disk_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Job]:
    """`disk_of(free, steps, **options)`: a job of N weights, where so many bytes are free."""

    def make(free: int, steps: int = 100, **options: Any) -> Job:
        monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: Usage(free))
        (tmp_path / "config.json").write_text("{}")
        job = Job(
            scratch=tmp_path, storage="s", selected="select/x", student=tmp_path, context=None, vocab_size=None, n_parameters=N, threads=1,
            options=TrainingOptions(**{"choose_by": "last", "save_every_steps": 10, **options}),
        )  # fmt: skip
        job.preflight.write_text(json.dumps({"schedule": {"steps": steps, "save_every": job.options.save_every_steps}}))
        return job

    return make


@pytest.mark.parametrize(
    ("room", "steps", "options"),
    [
        (2.6, 100, {}),  # two are kept while the third is written
        (0.8, 9, {}),  # one is enough at the end
        (0.0, 100, {}),
    ],
)
def test_training_whose_checkpoints_have_no_room_does_not_begin(
    room: float, steps: int, options: dict[str, Any], disk_of: Callable[..., Job]
) -> None:
    with pytest.raises(StorageUnavailable, match="there is room for") as caught:
        check_disk(disk_of(int(room * EACH), steps, **options))
    assert "Free some space there" in caught.value.remedy


@pytest.mark.parametrize(
    ("room", "steps", "options"),
    [(3.1, 100, {}), (4.1, 100, {"choose_by": "loss"}), (3.1, 9, {}), (0.0, 100, {"lora": LoraOptions()})],
)
def test_training_with_room_begins_without_a_word(
    room: float, steps: int, options: dict[str, Any], disk_of: Callable[..., Job], caplog: pytest.LogCaptureFixture
) -> None:
    check_disk(disk_of(int(room * EACH), steps, **options))
    assert not caplog.records


def test_disk_that_may_become_full_is_a_warning(disk_of: Callable[..., Job], caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        check_disk(disk_of(int(3.1 * EACH), choose_by="loss"))  # the best is kept besides
    assert "may become full" in caplog.text


def test_checkpoints_of_an_earlier_attempt_make_room_for_the_next(disk_of: Callable[..., Job]) -> None:
    job = disk_of(int(1.1 * EACH))
    for step in (10, 20):
        (job.checkpoints / f"checkpoint-{step}" / "deep").mkdir(parents=True)
        (job.checkpoints / f"checkpoint-{step}" / "deep" / "state.pt").write_bytes(b"0" * EACH)
    check_disk(job)


@pytest.mark.parametrize(
    "options",
    [{"zero_stage": 0}, {"zero_stage": 3, "dtype": "bfloat16"}]
    + [
        pytest.param(one, marks=pytest.mark.slow)
        for one in ({"zero_stage": 0, "dtype": "bfloat16"}, {"zero_stage": 2}, {"zero_stage": 2, "dtype": "bfloat16"}, {"zero_stage": 3})
    ],
    ids=str,
)  # fmt: skip
def test_checkpoint_has_the_size_that_is_reckoned_with(
    options: dict[str, Any], make_job: Callable[..., Job], run_job: Callable[..., Job], rows: Callable[..., Any]
) -> None:
    job = run_job(make_job(rows(8, 0), max_steps=1, **options))
    files = [file for file in (job.checkpoints / "checkpoint-1").rglob("*") if file.is_file()]
    states = sum(file.stat().st_size for file in files if file.suffix in (".safetensors", ".pt", ".pth"))
    n_parameters = (job.student / "model.safetensors").stat().st_size // 4
    assert states == pytest.approx(checkpoint_bytes(n_parameters, job.options), rel=0.05)
