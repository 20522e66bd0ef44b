"""Whole runs through the reconciler, real Redis and real storage, with makers that take no time: undisturbed, then through every fault."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from overproof.pipeline.adapters.sources import rows_of_source
from overproof.pipeline.domain import decide as decide_module
from overproof.pipeline.prepare import prepare
from overproof.pipeline.reconcile import Reconciler
from overproof.pipeline.settings import PipelineSettings
from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import CorruptShard, EngineUnavailable, ModelError
from overproof.shared.messages import ShardRequest
from overproof.shared.recipe import Recipe
from overproof.shared.runs import Bindings, RunRecord, Runs, RunState, RunStatus, StageState, Wanted
from overproof.shared.specs import SPECS, CheckGoldSpec, GradeSpec, ModelRef, SampleSpec, SelectSpec
from overproof.shared.tables import COMPLETIONS, GOLD_CHECKS, GRADES, PROBLEMS, SELECTED, table_of
from overproof.shared.topology import Service, Stage
from overproof.shared.worker import Work, Worker

RECIPE: dict[str, Any] = {
    "name": "sim",
    "data": {
        "train": {"generator": "demo-math", "split": "train", "n": 23, "seed": 1},
        "test": {"generator": "demo-math", "split": "test", "n": 10, "seed": 2},
    },
    "models": {"teacher": "teacher", "student": "student"},
    "sampling": {"samples_per_pass": 2, "max_samples": 4, "enough": 1, "temperature": 1.0},
    "problems_per_shard": 5,
}


class Mailbox:
    """Stands where Celery would: keeps what is sent."""

    def __init__(self) -> None:
        self.letters: list[dict[str, Any]] = []

    def send_task(self, name: str, kwargs: dict[str, Any]) -> None:
        self.letters.append(kwargs)


class Site:
    """A pipeline, its storage, and one worker that does every stage."""

    def __init__(self, storage: Path, redis_url: str) -> None:
        self.settings = PipelineSettings(storage=str(storage), redis_url=redis_url, lease_seconds=0.5, max_attempts=3)
        self.worker = Worker(Service.INFERENCE, self.settings)
        self.runs = Runs(self.worker.artifacts.files)
        self.mailbox = Mailbox()
        self.made: list[str] = []
        self.broken: dict[str, Exception] = {}
        self.unreadable = 0
        self.restart()

    def restart(self) -> None:
        """A fresh pipeline process: it remembers nothing."""
        self.reconciler = Reconciler(self.worker.artifacts.files, self.worker.leases, self.mailbox)  # type: ignore[arg-type]

    def submit(self, run_id: str = "r", **change: Any) -> None:
        models = {name: ModelRef(name=name, kind="folder", location=name) for name in ("teacher", "student")}
        recipe = Recipe.model_validate({**RECIPE, **change})
        assert self.runs.create(RunRecord(run_id=run_id, created_at=0, recipe=recipe, bindings=Bindings(models=models)))

    def deliver(self, letter: dict[str, Any]) -> None:
        request = ShardRequest.model_validate(letter)
        self.worker.service = Service({"prepare": "pipeline", "train": "training"}.get(request.stage, "inference"))
        self.worker.make_shard(request, SPECS[request.stage], self.make)

    def make(self, work: Work[Any]) -> None:
        stage = work.spec.stage
        if stage in self.broken:
            raise self.broken[stage]
        self.made.append(f"{work.ref}/{work.shard}")
        MAKERS.get(stage, _one_file)(work)
        if stage is Stage.CHECK_GOLD and self.unreadable:
            work.note(unreadable=self.unreadable, example="s:7")
        if stage is Stage.PREPARE:
            prepare(work, rows_of_source(work.spec.source, work.artifacts.files, self.settings))

    def turn(self) -> None:
        """One look, then all letters."""
        self.reconciler.reconcile()
        letters, self.mailbox.letters = self.mailbox.letters, []
        for letter in letters:
            self.deliver(letter)

    def run(self, turns: int = 60, run_id: str = "r") -> RunStatus:
        for _ in range(turns):
            self.turn()
            status = self.status(run_id)
            if status.state in (RunState.SUCCEEDED, RunState.FAILED):
                return status
        raise AssertionError(f"the run did not end: {[(s.label, s.state) for s in status.stages]}")

    def status(self, run_id: str = "r") -> RunStatus:
        status = self.runs.status(run_id)
        assert status is not None
        return status


def _problems(work: Work[Any]) -> Iterator[dict[str, Any]]:
    for batch in work.read(work.spec.problems, PROBLEMS, part=work.shard):
        yield from batch.to_pylist()


def _check_gold(work: Work[CheckGoldSpec]) -> None:
    rows = [
        {"problem_id": p["problem_id"], "source": p["source"], "answer": p["answer"], "readable": True, "reason": ""}
        for p in _problems(work)
    ]
    work.write(GOLD_CHECKS, [table_of(rows, GOLD_CHECKS)])
    work.note(unreadable=0)


def _solved(work: Work[SampleSpec], problem_id: str) -> bool:
    rows = (
        row
        for ref in work.spec.graded
        for batch in work.read(ref, GRADES, part=work.shard)
        for row in batch.to_pylist()
    )
    return any(row["problem_id"] == problem_id and row["verdict"] == "correct" for row in rows)


def _sample(work: Work[SampleSpec]) -> None:
    spec, rows = work.spec, []
    for problem in _problems(work):
        if spec.enough and _solved(work, problem["problem_id"]):
            continue
        for index in range(spec.sampling.first_sample, spec.sampling.first_sample + spec.sampling.samples):
            draw = random.Random(f"{spec.sampling.seed} {problem['problem_id']} {index} {spec.model.location}").random()
            rows.append({
                "problem_id": problem["problem_id"], "sample": index, "round": spec.round, "role": spec.role, "model": spec.model.name,
                "text": "right" if draw < 0.5 else "wrong", "n_tokens": int(draw * 100), "finish_reason": "stop", "prompt_tokens": 1,
                "mean_logprob": None, "seed": 0, "spec": spec.likeness,
            })  # fmt: skip
    work.write(COMPLETIONS, [table_of(rows, COMPLETIONS)])
    work.note(completions=len(rows), busy_seconds=0.001)


def _grade(work: Work[GradeSpec]) -> None:
    rows = [
        {
            "problem_id": row["problem_id"], "sample": row["sample"], "verdict": "correct" if row["text"] == "right" else "wrong",
            "extracted": None, "gold": "", "method": "", "reason": "", "seconds": 0.0, "grader": "1", "spec": "x",
        }
        for batch in work.read(work.spec.completions, COMPLETIONS, part=work.shard)
        for row in batch.to_pylist()
    ]  # fmt: skip
    work.write(GRADES, [table_of(rows, GRADES)])
    work.note(verdicts={"correct": sum(row["verdict"] == "correct" for row in rows)})


def _select(work: Work[SelectSpec]) -> None:
    for ref in (*work.spec.completions, *work.spec.grades):
        assert work.artifacts.manifest(ref) is not None
    work.write(SELECTED, [pa.Table.from_pylist([], schema=SELECTED)])


def _one_file(work: Work[Any]) -> None:
    if work.spec.stage is not Stage.PREPARE:
        path = work.scratch() / "file"
        path.write_text(work.ref)
        work.write_file(path, "file.txt")


MAKERS: dict[Stage, Callable[[Work[Any]], None]] = {
    Stage.CHECK_GOLD: _check_gold,
    Stage.SAMPLE: _sample,
    Stage.GRADE: _grade,
    Stage.SELECT: _select,
}


def completions(artifacts: Artifacts, status: RunStatus) -> list[dict[str, Any]]:
    """Every completion of the run, in order."""
    refs = sorted(ref for name, ref in status.artifacts.items() if name.startswith("completions/"))
    return [row for ref in refs for batch in artifacts.read(ref, COMPLETIONS) for row in batch.to_pylist()]


@pytest.fixture
def site(storage: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setattr(decide_module, "LOST_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(decide_module, "FIRST_BACKOFF_SECONDS", 0.0)
    return Site(storage, redis_url)


def test_run_goes_from_recipe_to_report(site: Site) -> None:
    site.submit()
    status = site.run()
    assert status.state is RunState.SUCCEEDED
    assert all(stage.state is StageState.DONE for stage in status.stages)
    assert len(site.made) == len(set(site.made))
    types = [event.type for event in site.runs.events("r", limit=1000)]
    assert (types[-1], types.count("stage.done")) == ("run.succeeded", len(status.stages))
    assert status.model_busy_share is not None


def test_adaptive_passes_sample_only_unsolved_problems(site: Site) -> None:
    site.submit()
    stages = {stage.label: stage for stage in site.run().stages}
    first = stages["sample · teacher · round 1 · pass 1"]
    solved = stages["grade · teacher · round 1 · pass 1"].notes["verdicts"]["correct"]
    second = stages["sample · teacher · round 1 · pass 2"]
    assert first.rows == 46
    assert 0 < second.rows < first.rows - solved


def test_second_run_shares_what_the_first_made(site: Site) -> None:
    site.submit("a")
    site.run(run_id="a")
    before = len(site.made)
    site.submit("b", training={"epochs": 7})
    site.run(run_id="b")
    stages = {made.partition("/")[0] for made in site.made[before:]}
    assert stages == {"train", "sample", "grade", "compare", "report"}


def test_two_runs_at_once_both_end(site: Site) -> None:
    site.submit("a")
    site.submit("b", sampling={**RECIPE["sampling"], "seed": 5})
    assert site.run(run_id="a").state is RunState.SUCCEEDED
    assert site.run(run_id="b").state is RunState.SUCCEEDED


@pytest.mark.parametrize("seed", range(4))
def test_faults_cost_time_and_change_no_row(site: Site, seed: int, tmp_path: Path, redis_url: str) -> None:
    calm = Site(tmp_path / "calm", redis_url)
    calm.submit()
    expected = completions(calm.worker.artifacts, calm.run())
    site.worker.leases._redis.flushall()
    chance = random.Random(seed)
    site.submit()
    for _ in range(200):
        site.reconciler.reconcile()
        letters, site.mailbox.letters = site.mailbox.letters, []
        for letter in chance.sample(letters, len(letters)):
            _disturb(site, letter, chance)
        if site.status().state in (RunState.SUCCEEDED, RunState.FAILED):
            break
    assert site.status().state is RunState.SUCCEEDED
    _repair(site)
    assert completions(site.worker.artifacts, site.status()) == expected


def _repair(site: Site) -> None:
    """Find damage that nobody has read yet; without its status a run is looked at again, and made whole."""
    root = Path(site.worker.artifacts.files.root) / "artifacts"
    for path in sorted(root.glob("sample/*/MANIFEST.json")):
        ref = f"sample/{path.parent.name}"
        for part in site.worker.artifacts.parts(ref):
            with contextlib.suppress(CorruptShard):
                site.worker.artifacts.verify(ref, part)
    site.worker.artifacts.files.delete("runs/r/status.json")
    site.restart()
    assert site.run().state is RunState.SUCCEEDED


def _disturb(site: Site, letter: dict[str, Any], chance: random.Random) -> None:
    """Deliver, lose, double or interrupt a message; wipe Redis; restart the pipeline; damage a finished part."""
    fate = chance.random()
    if fate < 0.15:
        return
    if fate < 0.25:
        site.worker.leases._redis.flushall()
    if fate < 0.35:
        site.restart()
    if fate < 0.45:
        site.deliver(letter)
    if fate > 0.95:
        _damage(site, chance)
    site.deliver(letter)


def _damage(site: Site, chance: random.Random) -> None:
    root = Path(site.worker.artifacts.files.root) / "artifacts" / "sample"
    parts = sorted(root.glob("*/part-*.parquet"))
    if parts:
        chance.choice(parts).write_bytes(b"damaged")


def test_killed_workers_shard_is_made_again_when_its_lease_ends(site: Site) -> None:
    site.submit()
    site.reconciler.reconcile()
    letter = site.mailbox.letters.pop()
    ref = f"{letter['stage']}/{letter['key']}"
    assert site.worker.leases.claim("pipeline", ref, letter["shard"], "a worker that dies")
    site.reconciler.reconcile()
    assert site.mailbox.letters == []
    site.worker.leases.release(ref, letter["shard"], "a worker that dies")
    assert site.run().state is RunState.SUCCEEDED


def test_mistake_fails_the_run_with_its_sentence_and_resume_goes_on(site: Site) -> None:
    site.submit()
    site.broken[Stage.CHECK_MODEL] = ModelError("teacher has no chat template.", "Add one.")
    status = site.run()
    assert status.state is RunState.FAILED
    assert status.error is not None
    assert (status.error.kind, status.error.message, status.error.remedy) == (
        "ModelError",
        "teacher has no chat template.",
        "Add one.",
    )
    assert not any(made.startswith("sample") for made in site.made)
    site.broken.clear()
    for stage in status.stages:
        site.worker.artifacts.forgive(stage.ref)
        site.worker.leases.forgive(stage.ref)
    for _ in range(60):
        site.turn()
        if site.status().state is RunState.SUCCEEDED:
            break
    assert site.status().state is RunState.SUCCEEDED


@pytest.mark.parametrize("policy", ["error", "keep"])
def test_gold_answer_that_cannot_be_read_stops_before_sampling_unless_kept(site: Site, policy: str) -> None:
    site.unreadable = 1
    site.submit(goal="select", data={"train": RECIPE["data"]["train"], "on_ungradable": policy})
    status = site.run()
    if policy == "keep":
        assert status.state is RunState.SUCCEEDED
        return
    assert status.error is not None
    assert "gold answers cannot be read, e.g. s:7" in status.error.message
    assert not any(made.startswith("sample") for made in site.made)


def test_poison_shard_is_reported_after_its_attempts(site: Site) -> None:
    site.submit()
    site.broken[Stage.GRADE] = EngineUnavailable("The grader fell over.")
    status = site.run()
    assert status.error is not None
    assert status.error.kind == "Poison"
    assert "The grader fell over." in status.error.message


def test_paused_run_sends_nothing_and_goes_on_later(site: Site) -> None:
    site.submit()
    for _ in range(3):
        site.turn()
    site.runs.want("r", Wanted.PAUSED)
    site.turn()
    before = len(site.made)
    for _ in range(3):
        site.turn()
    assert site.status().state is RunState.PAUSED
    assert len(site.made) == before
    site.runs.want("r", Wanted.RUNNING)
    assert site.run().state is RunState.SUCCEEDED


def test_cancelled_run_halts_only_what_no_other_run_wants(site: Site) -> None:
    site.submit("a")
    site.submit("b", training={"epochs": 7})
    site.turn()
    site.runs.want("a", Wanted.CANCELLED)
    assert site.run(run_id="b").state is RunState.SUCCEEDED
    assert site.status("a").state is RunState.CANCELLED


def test_recipe_that_cannot_be_planned_fails_alone(site: Site) -> None:
    site.submit("good")
    site.submit("bad", models={"teacher": "unbound", "student": "student"})
    assert site.run(run_id="good").state is RunState.SUCCEEDED
    error = site.status("bad").error
    assert error is not None
    assert "unbound" in error.message


def prepared(site: Site, lines: str, **change: Any) -> RunStatus:
    root = Path(site.worker.artifacts.files.root)
    root.mkdir(parents=True, exist_ok=True)
    (root / "train.jsonl").write_text(lines)
    site.settings.data_root = root
    site.submit(data={**RECIPE["data"], "train": {"file": "train.jsonl"}}, **change)
    return site.run()


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (
            '{"problem": "1+1?", "answer": "2"}\n{"problem": "1+1?", "answer": "3"}',
            "line 2: this problem stands there before",
        ),
        ('{"problem": "1+1?"}\n{"question": 7}', "line 1: answer is missing"),
        ('{"problem": "1+1?", "answer": "2"}\nnot json', "Line 2 is not JSON"),
        ("", "has no rows"),
    ],
)
def test_bad_data_is_named_by_line_before_anything_is_sampled(site: Site, lines: str, told: str) -> None:
    status = prepared(site, lines)
    assert status.error is not None
    assert told in f"{status.error.message} {status.error.remedy}"
    assert not any(made.startswith("sample") for made in site.made)


@pytest.mark.parametrize("policy", ["error", "drop"])
def test_training_problem_in_the_test_set_is_an_error_or_dropped(site: Site, policy: str) -> None:
    root = Path(site.worker.artifacts.files.root)
    root.mkdir(parents=True, exist_ok=True)
    (root / "test.jsonl").write_text(
        '{"problem": "Tom buys 3 pens at 4 cents each. What is the cost?", "answer": "12"}\n'
    )
    (root / "train.jsonl").write_text(
        '{"problem": "Anna buys 3 pens at 4 cents each. Find the cost.", "answer": "12"}\n{"problem": "1 + 1?", "answer": "2"}\n'
    )
    site.settings.data_root = root
    site.submit(data={"train": {"file": "train.jsonl"}, "test": {"file": "test.jsonl"}, "on_overlap": policy})
    status = site.run()
    if policy == "error":
        assert status.error is not None
        assert "train.jsonl:1" in status.error.message
        return
    train = site.worker.artifacts.manifest(status.artifacts["problems/train"])
    assert train is not None
    assert (train.rows, train.notes[0]["dropped_overlap"]) == (1, 1)


def test_given_completions_find_their_problems(site: Site) -> None:
    root = Path(site.worker.artifacts.files.root)
    root.mkdir(parents=True, exist_ok=True)
    (root / "p.jsonl").write_text(
        "".join(f'{{"problem": "What is {i} + 1?", "answer": "{i + 1}"}}\n' for i in range(12))
    )
    lines = [f'{{"problem": "What is {i} + 1?", "solution": "right", "num_tokens": {i}}}\n' for i in (11, 3, 3, 99, 0)]
    (root / "c.jsonl").write_text("".join(lines))
    site.settings.data_root = root
    site.submit(goal="grade", data={"train": {"file": "p.jsonl"}}, given={"completions": {"file": "c.jsonl"}})
    status = site.run()
    rows = [
        row
        for batch in site.worker.artifacts.read(status.artifacts["completions"], COMPLETIONS)
        for row in batch.to_pylist()
    ]
    assert [(row["n_tokens"], row["sample"]) for row in rows] == [(0, 0), (3, 0), (3, 1), (11, 0)]
    manifest = site.worker.artifacts.manifest(status.artifacts["completions"])
    assert manifest is not None
    assert [part.rows for part in manifest.parts] == [3, 0, 1]
    assert manifest.notes[0]["rows_without_problem"] == 1
