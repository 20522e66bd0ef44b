"""Shards of completions and of model checks, against a real Redis-protocol server and real storage."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overproof.inference import checking, tasks
from overproof.inference.domain.requests import seed_of
from overproof.inference.room import Room
from overproof.inference.settings import InferenceSettings
from overproof.inference.shelf import Shelf
from overproof.shared.messages import ShardRequest
from overproof.shared.recipe import EngineOptions, GradingOptions, PromptOptions
from overproof.shared.records import Failure, Receipt
from overproof.shared.specs import CheckModelSpec, GradeSpec, ModelRef, SampleSpec, Sampling
from overproof.shared.tables import COMPLETIONS, GRADES, rows_of, table_of
from overproof.shared.topology import Role, Stage
from overproof.shared.worker import Worker

pytest.importorskip("transformers", reason="Transformers is not installed")
TINY = ModelRef(name="tiny", kind="folder", location="tiny")
CANNED = EngineOptions(kind="canned")
TRANSFORMERS = EngineOptions(kind="transformers", batch_size=8)
SUMS = [f"What is {i} + 7?" for i in range(7)]
Publish = Callable[..., str]


class Bench:
    """Makes shards as the worker would."""

    def __init__(self, worker: Worker, settings: InferenceSettings) -> None:
        self.worker, self.settings, self.shelf = worker, settings, Shelf()

    def sample(self, spec: SampleSpec, shard: int = 0) -> None:
        self.worker.artifacts.declare(spec)
        request = ShardRequest(stage=Stage.SAMPLE, key=spec.key, shard=shard, run_id="r")
        self.worker.make_shard(
            request, SampleSpec, lambda work: tasks.sample(work, self.shelf, self.settings, Room(self.settings))
        )

    def check(self, spec: CheckModelSpec) -> None:
        self.worker.artifacts.declare(spec)
        request = ShardRequest(stage=Stage.CHECK_MODEL, key=spec.key, shard=0, run_id="r")
        self.worker.make_shard(request, CheckModelSpec, lambda work: tasks.check_model(work, self.settings))

    def receipt(self, spec: Any, shard: int = 0) -> Receipt:
        return self.worker.artifacts.receipt(spec.ref, shard)

    def failure(self, spec: Any) -> Failure:
        return self.worker.artifacts.failure(spec.ref, 0)

    def rows(self, spec: SampleSpec, shard: int = 0) -> list[dict[str, Any]]:
        return list(rows_of(self.worker.artifacts.read(spec.ref, COMPLETIONS, part=shard)))


@pytest.fixture
def bench(worker: Worker, settings: InferenceSettings) -> Bench:
    return Bench(worker, settings)


def spec_of(problems: str, engine: EngineOptions = CANNED, **how: Any) -> SampleSpec:
    sampling = Sampling(**({"samples": 3, "temperature": 1.0, "max_tokens": 30, "seed": 5} | how.pop("sampling", {})))
    return SampleSpec(
        problems=problems, model=TINY, role=Role.TEACHER, round=0, prompt=PromptOptions(), sampling=sampling,
        engine=engine, **how,
    )  # fmt: skip


@pytest.mark.parametrize("engine", [CANNED, TRANSFORMERS], ids=lambda engine: engine.kind)
def test_shard_has_each_sample_of_each_problem_in_order(bench: Bench, problems: Publish, engine: EngineOptions) -> None:
    spec = spec_of(problems(SUMS, SUMS[:2]), engine)
    bench.sample(spec)
    rows = bench.rows(spec)
    assert [(row["problem_id"], row["sample"]) for row in rows] == [(f"0-{i}", k) for i in range(7) for k in range(3)]
    assert [row["seed"] for row in rows[:3]] == [seed_of(5, "0-0", k) for k in range(3)]
    assert {(row["role"], row["model"], row["round"], row["spec"]) for row in rows} == {
        ("teacher", "tiny", 0, spec.likeness)
    }
    notes = bench.receipt(spec).notes
    assert (notes["completions"], notes["problems"], notes["skipped"], notes["errors"]) == (21, 7, 0, 0)
    assert notes["tokens"] == sum(row["n_tokens"] for row in rows)
    assert notes["truncated"] == sum(row["finish_reason"] == "length" for row in rows)
    assert 0 < notes["busy_seconds"] <= notes["wall_seconds"]


def test_each_shard_samples_its_own_part(bench: Bench, problems: Publish) -> None:
    spec = spec_of(problems(SUMS, SUMS[:2]))
    bench.sample(spec, shard=1)
    assert {row["problem_id"] for row in bench.rows(spec, 1)} == {"1-0", "1-1"}


def test_shard_made_again_has_the_same_rows(bench: Bench, problems: Publish, tmp_path: Path) -> None:
    spec = spec_of(problems(SUMS), TRANSFORMERS)
    bench.sample(spec)
    first = bench.rows(spec)
    shutil.rmtree(Path(bench.settings.storage) / "artifacts" / spec.ref)
    bench.sample(spec)
    assert bench.rows(spec) == first


def test_model_stays_loaded_between_shards(bench: Bench, problems: Publish) -> None:
    spec = spec_of(problems(SUMS, SUMS), TRANSFORMERS)
    bench.sample(spec)
    engine = bench.shelf._engine
    bench.sample(spec, shard=1)
    assert bench.shelf._engine is engine
    assert bench.receipt(spec, 0).notes["load_seconds"] > 0
    assert bench.receipt(spec, 1).notes["load_seconds"] == 0


def graded(bench: Bench, sampled: SampleSpec, correct: dict[str, int]) -> str:
    """Grades in which each problem has this many correct completions."""
    spec = GradeSpec(completions=sampled.ref, problems=sampled.problems, options=GradingOptions())
    rows = [
        {"problem_id": row["problem_id"], "sample": row["sample"], "extracted": "1", "gold": "1", "method": "m",
         "verdict": "correct" if row["sample"] < correct.get(row["problem_id"], 0) else "wrong",
         "reason": "", "seconds": 0.0, "grader": "1", "spec": "s"}
        for row in bench.rows(sampled)
    ]  # fmt: skip
    artifacts = bench.worker.artifacts
    artifacts.declare(spec)
    part = artifacts.write_part(spec.ref, 0, GRADES, [table_of(rows, GRADES)])
    artifacts.publish(spec.ref, Receipt(shard=0, parts=(part,), owner="t", started_at=0, finished_at=0))
    return spec.ref


def test_later_pass_skips_problems_with_enough_correct(bench: Bench, problems: Publish) -> None:
    ref = problems(SUMS)
    first = spec_of(ref)
    bench.sample(first)
    grades = graded(bench, first, {"0-0": 3, "0-2": 2, "0-3": 1})
    later = spec_of(ref, graded=(grades,), enough=2, sampling={"first_sample": 3, "samples": 2})
    bench.sample(later)
    assert [(row["problem_id"], row["sample"]) for row in bench.rows(later)] == [
        (f"0-{i}", k) for i in (1, 3, 4, 5, 6) for k in (3, 4)
    ]
    assert bench.receipt(later).notes["skipped"] == 2


def test_difficulty_gives_each_problem_its_own_number_of_samples_that_go_on(bench: Bench, problems: Publish) -> None:
    ref = problems(SUMS[:4])
    first = spec_of(ref, sampling={"samples": 4})
    bench.sample(first)
    grades = graded(bench, first, {"0-0": 4, "0-1": 3, "0-2": 2})
    how = {"graded": (grades,), "enough": 6, "quota": "difficulty", "max_samples": 7}
    later = spec_of(ref, sampling={"first_sample": 4, "samples": 4}, **how)
    bench.sample(later)
    rows = bench.rows(later)
    assert [(row["problem_id"], row["sample"]) for row in rows] == [
        ("0-2", 4), ("0-2", 5), ("0-3", 4), ("0-3", 5), ("0-3", 6),
    ]  # fmt: skip
    assert [row["seed"] for row in rows] == [seed_of(5, row["problem_id"], row["sample"]) for row in rows]
    assert bench.receipt(later).notes["skipped"] == 2


def test_pass_with_nothing_to_do_is_an_empty_part(bench: Bench, problems: Publish) -> None:
    ref = problems(SUMS[:2])
    first = spec_of(ref)
    bench.sample(first)
    later = spec_of(ref, graded=(graded(bench, first, {"0-0": 3, "0-1": 3}),), enough=1, sampling={"first_sample": 3})
    bench.sample(later)
    assert bench.rows(later) == []
    assert bench.receipt(later).notes["skipped"] == 2


def test_prompt_that_fails_is_a_row(bench: Bench, problems: Publish) -> None:
    spec = spec_of(problems([*SUMS, "long " * 300]), TRANSFORMERS.model_copy(update={"min_success_ratio": 0.8}))
    bench.sample(spec)
    last = bench.rows(spec)[-1]
    assert last["finish_reason"] == "error"
    assert "context is 256" in last["text"]
    assert bench.receipt(spec).notes["errors"] == 3


def test_shard_fails_when_too_many_prompts_do(bench: Bench, problems: Publish) -> None:
    spec = spec_of(problems([*SUMS, "long " * 300]), TRANSFORMERS)
    bench.sample(spec)
    failure = bench.failure(spec)
    assert failure.kind == "ModelError"
    assert "3 of 24 completions of this shard failed" in failure.message
    assert "min_success_ratio" in failure.remedy


def test_stopped_shard_ends_at_once_and_is_not_failed(bench: Bench, problems: Publish) -> None:
    spec = spec_of(problems(SUMS * 40), TRANSFORMERS, sampling={"max_tokens": 180})
    timer = threading.Timer(0.5, bench.worker._end)
    timer.start()
    bench.sample(spec)
    timer.join()
    listing = bench.worker.artifacts.listing(spec.ref)
    assert (listing.done, listing.failed) == (set(), set())
    assert bench.worker.leases.attempts(spec.ref, 0) == 0


def check_spec(problems: str, **how: Any) -> CheckModelSpec:
    return CheckModelSpec(**({
        "model": TINY, "problems": problems, "prompt": PromptOptions(), "max_tokens": 30, "engine": TRANSFORMERS,
    } | how))  # fmt: skip


def test_check_reports_lengths_and_room(bench: Bench, problems: Publish) -> None:
    spec = check_spec(problems(SUMS, [*SUMS, "What is 1 + 1? " * 3]))
    bench.check(spec)
    (part,) = bench.receipt(spec).parts
    found = json.loads(bench.worker.artifacts.files.read(f"artifacts/{spec.ref}/{part.name}"))
    assert part.name == "check.json"
    assert (found["problems"], found["context"], found["fits"], found["has_pad_token"]) == (15, 256, True, True)
    assert found["max_prompt_tokens"] > found["mean_prompt_tokens"] > 10
    assert found["longest_prompt"] == "sums:8"


@pytest.mark.parametrize(
    ("text", "how", "message"),
    [
        ("1 + 1", {"max_tokens": 300}, r"context of 256 tokens: the prompt of sums:1 takes \d+ .* max_tokens 300"),
        ("long " * 300, {}, r"the prompt of sums:1 takes \d+ and leaves no room"),
        ("this word breaks the template", {}, "tiny cannot be asked sums:1: The chat template failed: no"),
        ("1 + 1", {"engine": EngineOptions(kind="transformers", options={"x": 1})}, "neither engine.options"),
        ("1 + 1", {"engine": EngineOptions(kind="transformers", max_model_len=512)}, "more than the 256 positions"),
        ("1 + 1", {"model": TINY.model_copy(update={"location": "absent"})}, "no model folder absent"),
        ("1 + 1", {"model": TINY.model_copy(update={"location": "../.."})}, "outside the model root"),
    ],
)  # fmt: skip
def test_check_refuses_with_the_reason(
    bench: Bench, problems: Publish, text: str, how: dict[str, Any], message: str
) -> None:
    spec = check_spec(problems([text]), **how)
    bench.check(spec)
    failure = bench.failure(spec)
    assert failure.kind == "ModelError"
    assert __import__("re").search(message, failure.message)
    assert failure.remedy


def test_check_names_the_largest_room_that_fits(bench: Bench, problems: Publish) -> None:
    ref = problems(SUMS)
    bench.check(check_spec(ref, max_tokens=300))
    remedy = bench.failure(check_spec(ref, max_tokens=300)).remedy
    room = int(remedy.removeprefix("Set max_tokens to ").partition(" ")[0])
    bench.check(check_spec(ref, max_tokens=room))
    bench.check(check_spec(ref, max_tokens=room + 1))
    assert bench.receipt(check_spec(ref, max_tokens=room)).parts
    assert bench.failure(check_spec(ref, max_tokens=room + 1))


@pytest.mark.parametrize("missing", ["tokenizer.json", "chat_template.jinja", "model.safetensors", "config.json"])
def test_check_refuses_an_incomplete_folder(
    bench: Bench, problems: Publish, checkpoint: Path, tmp_path: Path, missing: str
) -> None:
    shutil.copytree(checkpoint, tmp_path / "models" / "part")
    (tmp_path / "models" / "part" / missing).unlink()
    bench.settings.model_root = tmp_path / "models"
    spec = check_spec(problems(SUMS), model=ModelRef(name="part", kind="folder", location="part"))
    bench.check(spec)
    assert bench.failure(spec).kind == "ModelError"


def test_check_refuses_a_model_without_end_of_sequence(
    bench: Bench, problems: Publish, checkpoint: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "endless"
    shutil.copytree(checkpoint, folder)
    for name in ("generation_config.json", "config.json", "tokenizer_config.json"):
        values = json.loads((folder / name).read_text())
        (folder / name).write_text(
            json.dumps({key: value for key, value in values.items() if not key.startswith("eos")})
        )
    bench.settings.model_root = tmp_path / "models"
    spec = check_spec(problems(SUMS), model=ModelRef(name="endless", kind="folder", location="endless"))
    bench.check(spec)
    assert "no end-of-sequence token" in bench.failure(spec).message


def test_many_problems_are_sampled_with_the_longest_among_them(
    bench: Bench, problems: Publish, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checking, "ALL_UP_TO", 10)
    monkeypatch.setattr(checking, "LONGEST", 2)
    spec = check_spec(problems([*SUMS * 5, "What is 1 + 1? " * 3, *SUMS * 5]))
    bench.check(spec)
    (part,) = bench.receipt(spec).parts
    found = json.loads(bench.worker.artifacts.files.read(f"artifacts/{spec.ref}/{part.name}"))
    assert found["problems"] == 9 + 2
    assert found["longest_prompt"] == "sums:36"
