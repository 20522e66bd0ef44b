"""The student writes while it is trained; grading judges; the weights that solve most may become the student."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import EngineUnavailable
from overproof.shared.recipe import DataSource, GradingOptions, LoraOptions, ProbeOptions, TrainingOptions
from overproof.shared.records import Receipt
from overproof.shared.specs import PrepareSpec, TrainSpec
from overproof.shared.tables import PROBLEMS, table_of
from overproof.shared.worker import Worker
from overproof.training import checkpointing, probes
from overproof.training.domain.probing import Judged, best, chosen_problems, is_due, judged, writing_of
from overproof.training.job import Job
from overproof.training.settings import TrainingSettings

Rows = list[dict[str, Any]]
Deliver = Callable[[TrainSpec, TrainingSettings], Worker]
PROBE = ProbeOptions(every_steps=4, problems=6, max_tokens=24)


def solution(text: str, n_tokens: int, finish_reason: str = "stop") -> dict[str, Any]:
    return {"problem_id": "p", "text": text, "n_tokens": n_tokens, "finish_reason": finish_reason}


def test_probe_problems_are_fixed_by_the_seed_and_not_by_the_order_of_rows() -> None:
    ids = [f"{i:03d}" for i in range(50)] * 2
    chosen = chosen_problems(ids, PROBE, seed=5)
    assert len(set(chosen)) == 6
    assert chosen == chosen_problems(reversed(ids), PROBE, seed=5)
    assert chosen != chosen_problems(ids, PROBE, seed=6)
    assert chosen == chosen_problems(ids, ProbeOptions(problems=7), seed=5)[:6]


def test_probe_comes_before_the_first_step_at_its_steps_and_after_the_last() -> None:
    assert [step for step in range(11) if is_due(step, 10, PROBE)] == [0, 4, 8, 10]


def test_unreadable_gold_answers_are_left_out_of_the_accuracy() -> None:
    found = judged(
        8, [solution("x", 3), solution("y", 5, "length"), solution("z", 4)], ["correct", "truncated", "ungradable"]
    )
    assert (found.n, found.correct, found.accuracy) == (2, 1, 0.5)
    assert writing_of([solution("x", 3), solution("y", 5, "length")]) == (2, 4.0, 1.0, 0.5)
    assert judged(8, [solution("z", 4)], ["ungradable"]).accuracy is None


@pytest.mark.parametrize(
    ("history", "step"),
    [
        ([(0, 4, 10.0), (4, 2, 10.0), (8, 3, 10.0)], 8),  # the base is no student
        ([(4, 3, 12.0), (8, 3, 9.0), (12, 3, 9.0)], 8),  # of equals the shorter, then the earlier
        ([(4, 4, 99.0), (8, 3, 9.0)], 4),
    ],
)
def test_most_correct_then_shortest_then_earliest_is_chosen(history: list[tuple[int, int, float]], step: int) -> None:
    found = best(Judged(at, 5, correct, tokens, {}) for at, correct, tokens in history)
    assert found is not None
    assert found.step == step


def test_weights_are_kept_until_better_ones_are_safe(tmp_path: Path) -> None:
    job = Job(
        scratch=tmp_path, storage="s", selected="select/x", student=tmp_path, context=None, vocab_size=None, n_parameters=1, threads=1,
        options=TrainingOptions(probe=PROBE, choose_by="accuracy"),
    )  # fmt: skip
    watched = probes.Probes(job, None, None, lambda **_: None)  # type: ignore[arg-type]
    watched._judged = {step: Judged(step, 6, correct, 9.0, {}) for step, correct in ((4, 2), (8, 5))}
    safe, better = (job.checkpoints / checkpointing.weights_name(step) for step in (4, 8))
    safe.mkdir(parents=True)
    watched._forget_worse()  # a restart now would go back behind step 8, and make another one on a GPU
    assert safe.is_dir()
    better.mkdir()
    watched._forget_worse()
    assert not safe.exists()
    assert better.is_dir()


class Grading:
    """Judges the probes of the steps it knows, and gives the others up."""

    def __init__(self, verdicts: dict[int, list[str]]) -> None:
        self._verdicts = verdicts
        self._step = 0

    def ask(self, solutions: Rows, *_: Any) -> Grading:
        question = Grading(self._verdicts)
        question._step = int(solutions[0]["text"])
        return question

    def answer(self) -> list[str]:
        if self._step not in self._verdicts:
            raise EngineUnavailable("A probe could not be graded: the grader broke.", "See its log.")
        return self._verdicts[self._step]


@pytest.fixture
def graded(tmp_path: Path) -> Callable[..., probes.Probes]:
    """`graded(verdicts, choose_by)`: the probes of steps 4, 8 and 12, one solution each, weights kept of all."""

    def make(verdicts: dict[int, list[str]], choose_by: str) -> probes.Probes:
        job = Job(
            scratch=tmp_path, storage="s", selected="select/x", student=tmp_path, context=None, vocab_size=None, n_parameters=1, threads=1,
            options=TrainingOptions(probe=PROBE, choose_by=choose_by),
        )  # fmt: skip
        job.probes.mkdir()
        job.probe.write_text(json.dumps({"problems": [{"problem_id": "p", "gold": ["3"]}]}))
        for step in (4, 8, 12):
            job.probe_of(step).write_text(json.dumps([solution(str(step), 3)]))
            (job.checkpoints / checkpointing.weights_name(step)).mkdir(parents=True)
        work = SimpleNamespace(spec=SimpleNamespace(problems="p", grading=None), run_id="r", check=lambda: None)
        return probes.Probes(job, work, Grading(verdicts), lambda **_: None)  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize("choose_by", ["loss", "last"])
def test_probe_that_cannot_be_graded_ends_no_training_that_it_does_not_choose(
    choose_by: str, graded: Callable[..., probes.Probes], caplog: pytest.LogCaptureFixture
) -> None:
    watched = graded({4: ["wrong"], 12: ["correct"]}, choose_by)
    assert watched.look()
    assert not watched.look()
    watched.settle()
    assert [(one.step, one.accuracy) for one in watched._judged.values()] == [(4, 0.0), (12, 1.0)]
    rows = [json.loads(line) for line in watched._job.solutions.read_text().splitlines()]
    assert [(row["step"], row["verdict"]) for row in rows] == [(4, "wrong"), (8, None), (12, "correct")]
    assert caplog.text.count("the probe of step 8 has no accuracy: A probe could not be graded") == 1


def test_probe_that_cannot_be_graded_may_be_the_one_to_choose(graded: Callable[..., probes.Probes]) -> None:
    watched = graded({4: ["wrong"], 12: ["correct"]}, "accuracy")
    watched.look()
    with pytest.raises(EngineUnavailable, match="the grader broke"):
        watched.settle()


def test_weights_without_a_readable_gold_answer_are_not_kept(graded: Callable[..., probes.Probes]) -> None:
    watched = graded({4: ["ungradable"], 8: ["ungradable"]}, "accuracy")
    watched.look()
    kept = [path.name for path in watched._job.checkpoints.iterdir()]
    assert kept == [checkpointing.weights_name(12)]  # not judged: it may be the best


# --- whole trainings --------------------------------------------------------------------------------------------------


def threes(n_train: int = 40, n_val: int = 8) -> Rows:
    """Rows whose answer is always 3: soon learnt."""
    return [
        {
            "problem_id": f"{i:032x}", "group_id": f"{i:032x}", "sample": 0, "prompt": f"What is {i} + 3 - {i}?", "system": None,
            "completion": "It is \\boxed{3}.", "n_tokens": 5, "level": 1, "type": "Algebra",
            "split": "train" if i < n_train else "val", "policy": "shortest",
        }
        for i in range(n_train + n_val)
    ]  # fmt: skip


def publish_problems(artifacts: Artifacts, rows: Rows) -> str:
    """The problems that the rows solve, as a complete table; returns its reference."""
    spec = PrepareSpec(table="problems", source=DataSource(file="p.jsonl"), rows_per_part=1000)
    problems = [
        {
            "problem_id": row["problem_id"],
            "group_id": row["group_id"],
            "problem": row["prompt"],
            "answer": "3",
            "source": "p:1",
        }
        for row in rows
    ]
    artifacts.declare(spec)
    part = artifacts.write_part(spec.ref, 0, PROBLEMS, [table_of(problems, PROBLEMS)])
    artifacts.publish(spec.ref, Receipt(shard=0, parts=(part,), owner="test", started_at=0, finished_at=0))
    artifacts.close(spec.ref, 1, "problems")
    return spec.ref


@pytest.fixture
def probed(
    artifacts: Artifacts, select: Callable[[Artifacts, Rows], str], train_spec: Callable[..., TrainSpec]
) -> Callable[..., TrainSpec]:
    """`probed(**options)`: a training on threes with a probe whose solutions are graded."""

    def make(**options: Any) -> TrainSpec:
        spec = train_spec(
            select(artifacts, threes()), **{"probe": PROBE, "max_steps": 10, "save_every_steps": 3, **options}
        )
        return spec.model_copy(update={"problems": publish_problems(artifacts, threes()), "grading": GradingOptions()})

    return make


@contextmanager
def grading(settings: TrainingSettings) -> Iterator[None]:
    """A grading worker: a process of its own, met on the queue and in storage only."""
    names = ("storage", "redis_url", "lease_seconds")
    environment = {f"OVERPROOF_{name.upper()}": str(getattr(settings, name)) for name in names}
    process = subprocess.Popen([sys.executable, "-m", "overproof.grading"], env=os.environ | environment)
    try:
        yield
    finally:
        process.terminate()
        process.wait()


def part(artifacts: Artifacts, spec: TrainSpec, name: str) -> bytes:
    return artifacts.files.read(f"{artifacts.folder(spec.ref)}/{name}")


def lines(artifacts: Artifacts, spec: TrainSpec, name: str) -> Rows:
    return [json.loads(line) for line in part(artifacts, spec, name).splitlines()]


def test_probe_is_graded_and_the_weights_that_solve_most_become_the_student(
    probed: Callable[..., TrainSpec], deliver: Deliver, settings: TrainingSettings, artifacts: Artifacts
) -> None:
    spec = probed(choose_by="accuracy", learning_rate=1e-2, max_steps=22)
    with grading(settings):
        deliver(spec, settings)
    seen = [line for line in lines(artifacts, spec, "metrics.jsonl") if "probe_n" in line]
    assert [line["step"] for line in seen] == [0, 4, 8, 12, 16, 20, 22]
    assert seen[0]["probe_accuracy"] == 0
    assert seen[0]["probe_truncated_share"] > 0.5
    top = max(line["probe_accuracy"] for line in seen)
    assert top == 1.0
    notes = artifacts.receipt(spec.ref, 0).notes
    assert notes["step"] == next(
        line["step"] for line in seen if line["probe_accuracy"] == top and _shortest(line, seen)
    )
    written = lines(artifacts, spec, "probes.jsonl")
    assert len(written) == 7 * 6
    assert {row["verdict"] for row in written if row["step"] == notes["step"]} == {"correct"}
    result = json.loads(part(artifacts, spec, "checkpoint/training.json"))["result"]
    assert result["step"] == notes["step"]
    assert "most correct" in result["chosen_for"]
    validation_problems = {row["problem_id"] for row in threes() if row["split"] == "val"}
    assert {row["problem_id"] for row in written} <= validation_problems


def _shortest(line: dict[str, Any], seen: Rows) -> bool:
    return line["probe_tokens_mean"] == min(
        one["probe_tokens_mean"] for one in seen if one.get("probe_accuracy") == line["probe_accuracy"]
    )


def test_without_a_grading_worker_the_shard_is_handed_back_and_the_training_is_not_made_again(
    probed: Callable[..., TrainSpec],
    deliver: Deliver,
    settings: TrainingSettings,
    artifacts: Artifacts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(probes, "PATIENCE_SECONDS", 1.0)
    spec = probed()
    worker = deliver(spec, settings)
    assert not artifacts.is_published(spec.ref, 0)
    assert not artifacts.listing(spec.ref).failed
    assert worker.leases.attempts(spec.ref, 0) == 0
    assert "grading worker" in str(worker.leases.last_error(spec.ref, 0))
    monkeypatch.undo()
    with grading(settings):
        deliver(spec, settings)
    assert artifacts.is_published(spec.ref, 0)
    assert "fit_seconds" not in artifacts.receipt(spec.ref, 0).notes


@pytest.mark.slow
def test_weights_chosen_by_a_probe_may_be_an_adapter(
    probed: Callable[..., TrainSpec], deliver: Deliver, settings: TrainingSettings, artifacts: Artifacts
) -> None:
    spec = probed(
        choose_by="accuracy", lora=LoraOptions(rank=8), learning_rate=3e-2, micro_batch_tokens=512, max_steps=16
    )
    with grading(settings):
        worker = deliver(spec, settings)
    assert artifacts.is_published(spec.ref, 0), worker.leases.last_error(spec.ref, 0)
    seen = {line["step"]: line for line in lines(artifacts, spec, "metrics.jsonl") if "probe_n" in line}
    chosen = artifacts.receipt(spec.ref, 0).notes["step"]
    assert chosen > 0
    assert seen[chosen]["probe_accuracy"] == max(line["probe_accuracy"] for step, line in seen.items() if step)
    assert part(artifacts, spec, "checkpoint/model.safetensors")


@pytest.mark.slow
def test_watching_a_training_does_not_change_it(
    probed: Callable[..., TrainSpec], deliver: Deliver, settings: TrainingSettings, artifacts: Artifacts
) -> None:
    for options in ({"zero_stage": 2}, {"micro_batch_tokens": 256, "zero_stage": 0}):
        watched = probed(choose_by="last", **options).model_copy(update={"problems": None})
        plain = probed(choose_by="last", probe=None, **options).model_copy(update={"problems": None})
        for spec in (watched, plain):
            deliver(spec, settings)
        steps = [
            [line for line in lines(artifacts, spec, "metrics.jsonl") if "loss" in line] for spec in (watched, plain)
        ]
        assert [line["loss"] for line in steps[0]] == [line["loss"] for line in steps[1]]
        assert part(artifacts, watched, "checkpoint/model.safetensors") == part(
            artifacts, plain, "checkpoint/model.safetensors"
        )
        assert not any("probe_accuracy" in line for line in lines(artifacts, watched, "metrics.jsonl"))


@pytest.mark.slow
@pytest.mark.parametrize("stage", [2, 3])
def test_processes_share_the_probe(
    stage: int, probed: Callable[..., TrainSpec], deliver: Deliver, settings: TrainingSettings, artifacts: Artifacts
) -> None:
    probe = PROBE.model_copy(update={"problems": 5})
    one = probed(probe=probe, processes=1, zero_stage=0).model_copy(update={"problems": None})
    two = probed(probe=probe, processes=2, zero_stage=stage, micro_batch_size=4).model_copy(update={"problems": None})
    for spec in (one, two):
        deliver(spec, settings)
    assert len(lines(artifacts, two, "probes.jsonl")) == 4 * 5
    assert lines(artifacts, one, "probes.jsonl")[:5] == lines(artifacts, two, "probes.jsonl")[:5]
    losses = [
        [line["loss"] for line in lines(artifacts, spec, "metrics.jsonl") if "loss" in line] for spec in (one, two)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
