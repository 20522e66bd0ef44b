"""What `/metrics` says of a shard."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from prometheus_client import REGISTRY

from overproof.inference import tasks
from overproof.inference.room import Room
from overproof.inference.settings import InferenceSettings
from overproof.inference.shelf import Shelf
from overproof.shared.messages import ShardRequest
from overproof.shared.recipe import EngineOptions, PromptOptions
from overproof.shared.specs import ModelRef, SampleSpec, Sampling
from overproof.shared.topology import Role, Stage
from overproof.shared.worker import Worker

pytest.importorskip("transformers", reason="Transformers is not installed")
OF_STUDENT = {"role": "student", "stage": "sample"}


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, OF_STUDENT | labels) or 0.0


def sample(worker: Worker, settings: InferenceSettings, problems: str, seed: int) -> SampleSpec:
    spec = SampleSpec(
        problems=problems, model=ModelRef(name="tiny", kind="folder", location="tiny"), role=Role.STUDENT, round=1,
        prompt=PromptOptions(), sampling=Sampling(samples=4, temperature=1.0, max_tokens=12, seed=seed),
        engine=EngineOptions(kind="transformers", batch_size=8),
    )  # fmt: skip
    worker.artifacts.declare(spec)
    request = ShardRequest(stage=Stage.SAMPLE, key=spec.key, shard=0, run_id="r")
    worker.make_shard(request, SampleSpec, lambda work: tasks.sample(work, Shelf(), settings, Room(settings)))
    return spec


def test_counters_by_role_and_stage_agree_with_the_receipt(
    worker: Worker, settings: InferenceSettings, problems: Callable[..., str]
) -> None:
    names = {
        "tokens": ("overproof_tokens_total", {"kind": "generation"}),
        "prompt_tokens": ("overproof_tokens_total", {"kind": "prompt"}),
        "truncated": ("overproof_completions_total", {"finish": "length"}),
        "busy_seconds": ("overproof_model_busy_seconds_total", {}),
    }
    before = {note: value(name, **labels) for note, (name, labels) in names.items()}
    spec = sample(worker, settings, problems([f"What is {i} + 7?" for i in range(6)]), 1)
    notes = worker.artifacts.receipt(spec.ref, 0).notes
    assert notes["busy_seconds"] > 0
    for note, (name, labels) in names.items():
        assert value(name, **labels) - before[note] == pytest.approx(notes[note]), note


def test_no_sequence_is_left_in_the_gauges_after_a_shard(
    worker: Worker, settings: InferenceSettings, problems: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[float, float]] = []
    count = tasks.metrics.count

    def counting(role: str, stage: str, completion: object) -> None:
        seen.append((value("overproof_sequences_running"), value("overproof_sequences_waiting")))
        count(role, stage, completion)  # type: ignore[arg-type]

    monkeypatch.setattr(tasks.metrics, "count", counting)
    sample(worker, settings, problems([f"What is {i} + 7?" for i in range(6)]), 2)
    assert seen[0] == (8, 15)  # of 24, one is finished
    assert seen[-1] == (0, 0)
    assert value("overproof_sequences_running") == value("overproof_sequences_waiting") == 0


def test_shard_that_breaks_takes_its_sequences_along(
    worker: Worker, settings: InferenceSettings, problems: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(*_: object) -> None:
        raise ValueError("broken")

    monkeypatch.setattr(tasks.metrics, "count", breaks)
    sample(worker, settings, problems(["What is 1 + 7?"]), 3)
    assert value("overproof_sequences_running") == value("overproof_sequences_waiting") == 0
