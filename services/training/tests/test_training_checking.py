"""A student is checked with the data set's own solutions, long before there are rows to train it on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import OverproofError
from overproof.shared.messages import ShardRequest
from overproof.shared.recipe import DataSource, PromptOptions, TrainingOptions
from overproof.shared.records import Receipt
from overproof.shared.specs import CheckStudentSpec, ModelRef, PrepareSpec
from overproof.shared.tables import PROBLEMS, table_of
from overproof.shared.topology import Service, Stage
from overproof.shared.worker import Worker
from overproof.training import rehearsal
from overproof.training.adapters import machine
from overproof.training.adapters.machine import Gpu
from overproof.training.checking import check_student
from overproof.training.job import Job
from overproof.training.settings import TrainingSettings

OPTIONS = {"dtype": "float32", "max_length": 128, "global_batch_size": 8}


SHORT = tuple(f"What is {i} + 1?" for i in range(12))
LONG = tuple(f"Twelve, or {i}? " * 20 for i in range(12))


def problems_of(artifacts: Artifacts, statements: tuple[str, ...] = SHORT, solution: str | None = None) -> str:
    """A prepared table; returns its reference."""
    rows = [
        {
            "problem_id": f"{i:032x}", "group_id": f"{i:032x}", "problem": statement, "answer": str(i + 1), "alternatives": None,
            "solution": solution, "level": None, "type": None, "source": f"s:{i}",
        }
        for i, statement in enumerate(statements)
    ]  # fmt: skip
    spec = PrepareSpec(source=DataSource(file=f"{hash((statements, solution))}.jsonl"), rows_per_part=1000)
    artifacts.declare(spec)
    part = artifacts.write_part(spec.ref, 0, PROBLEMS, [table_of(rows, PROBLEMS)])
    artifacts.publish(spec.ref, Receipt(shard=0, parts=(part,), owner="test", started_at=0, finished_at=0))
    artifacts.close(spec.ref, 1, "problems")
    return spec.ref


@pytest.fixture
def job_of(models: Path, tmp_path: Path, artifacts: Artifacts) -> Callable[..., Job]:
    """`job_of(problems, student, **options)`: the job of a check."""

    def make(problems: str, student: str = "tiny", **options: Any) -> Job:
        job = Job(
            scratch=tmp_path / "check", storage=artifacts.files.root, selected=problems, student=models / student, context=256,
            vocab_size=384, n_parameters=60_000, options=TrainingOptions.model_validate(OPTIONS | options), threads=1,
            prompt=PromptOptions(),
        )  # fmt: skip
        job.scratch.mkdir(exist_ok=True)
        return job

    return make


def test_worker_leaves_what_it_found_and_takes_the_check_from_its_queue(
    settings: TrainingSettings, artifacts: Artifacts
) -> None:
    spec = CheckStudentSpec(
        student=ModelRef(name="tiny", kind="folder", location="tiny"), problems=problems_of(artifacts), prompt=PromptOptions(),
        options=TrainingOptions.model_validate(OPTIONS),
    )  # fmt: skip
    worker = Worker(Service.TRAINING, settings)
    worker.artifacts.declare(spec)
    request = ShardRequest(stage=Stage.CHECK_STUDENT, key=spec.key, shard=0, run_id="r")
    worker.make_shard(request, CheckStudentSpec, lambda work: check_student(work, settings))
    assert worker.artifacts.listing(spec.ref).done == {0}
    assert worker.artifacts.receipt(spec.ref, 0).notes == {"problems": 12, "too_long": 0, "warnings": 0}
    found = worker.artifacts.files.read_json(f"{worker.artifacts.folder(spec.ref)}/check.json")
    assert (found["problems"], found["end_token"], found["changed_by_the_tokenizer"]) == (12, "<|im_end|>", 0)
    assert found["estimate"]["tokens_per_pass"] > 8 * 20


def test_prompt_without_room_for_an_answer_is_refused_with_the_size_that_would_help(
    job_of: Callable[..., Job], artifacts: Artifacts
) -> None:
    problems = problems_of(artifacts, LONG)
    told = r"the shortest prompt with its answer has \d+ tokens, and training.max_length leaves 128"
    with pytest.raises(OverproofError, match=told) as caught:
        rehearsal.rehearse(job_of(problems))
    assert "Raise training.max_length" in caught.value.remedy
    with pytest.raises(OverproofError, match=r"and the student's context leaves 64"):
        rehearsal.rehearse(job_of(problems, max_length=2048).model_copy(update={"context": 64}))


def test_share_of_problems_that_cannot_fit_is_told(job_of: Callable[..., Job], artifacts: Artifacts) -> None:
    job = job_of(problems_of(artifacts, SHORT[:4] + LONG[:1]))
    rehearsal.rehearse(job)
    found = json.loads(job.check.read_text())
    assert (found["problems"], found["too_long"]) == (5, 1)
    assert found["warnings"] == [
        "1 of 5 training problems do not fit 128 tokens (training.max_length), whatever the teacher writes."
    ]


def test_every_nth_of_many_problems_is_looked_at(
    job_of: Callable[..., Job], artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rehearsal, "ALL_UP_TO", 5)
    job = job_of(problems_of(artifacts))
    rehearsal.rehearse(job)
    assert json.loads(job.check.read_text())["problems"] == 4  # every third of twelve


def test_tokenizer_that_loses_the_solutions_is_refused(
    job_of: Callable[..., Job], artifacts: Artifacts, models: Path
) -> None:
    deaf = models / "deaf"
    shutil.copytree(models / "tiny", deaf)
    tokenizer = json.loads((deaf / "tokenizer.json").read_text())
    tokenizer["normalizer"] = {"type": "Lowercase"}
    (deaf / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(OverproofError, match="tokenizer loses text") as caught:
        rehearsal.rehearse(job_of(problems_of(artifacts, solution="Let X be it. So X = 3."), "deaf"))
    assert caught.value.remedy.startswith("Take a student")


def test_training_that_no_gpu_here_can_hold_is_refused(
    job_of: Callable[..., Job], artifacts: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "visible_gpus", lambda: [Gpu("NVIDIA L4", 24 * 2**30)])
    job = job_of(problems_of(artifacts), dtype="bfloat16", micro_batch_tokens=8192)
    rehearsal.rehearse(job)
    with pytest.raises(OverproofError, match=r"needs about \d+ GiB per GPU, and NVIDIA L4 has 24"):
        rehearsal.rehearse(job.model_copy(update={"n_parameters": 7_000_000_000}))
