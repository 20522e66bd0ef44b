"""A pipeline with real storage and a real Redis-protocol server, and makers of every stage that take no time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from overproof.pipeline.adapters.sources import rows_of_source
from overproof.pipeline.domain import decide as decide_module
from overproof.pipeline.prepare import prepare
from overproof.pipeline.reconcile import Reconciler
from overproof.pipeline.settings import PipelineSettings
from overproof.shared.messages import ShardRequest
from overproof.shared.recipe import Recipe
from overproof.shared.runs import Bindings, RunRecord, Runs, RunState, RunStatus
from overproof.shared.specs import SPECS, CheckGoldSpec, GradeSpec, ModelRef, SampleSpec, SelectSpec
from overproof.shared.tables import COMPLETIONS, GOLD_CHECKS, GRADES, PROBLEMS, SELECTED, table_of
from overproof.shared.topology import Service, Stage
from overproof.shared.work import Work
from overproof.shared.worker import Worker

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

    recipe: ClassVar[dict[str, Any]] = RECIPE

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
            work.note(unreadable=self.unreadable, examples={"s:7": "'?': it is prose"})
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
    """A question mark cannot be read."""
    rows = [
        {name: p[name] for name in ("problem_id", "source", "answer")}
        | {"readable": p["answer"] != "?", "reason": "it is no answer" if p["answer"] == "?" else ""}
        for p in _problems(work)
    ]
    work.write(GOLD_CHECKS, [table_of(rows, GOLD_CHECKS)])
    bad = {row["source"]: row["reason"] for row in rows if not row["readable"]}
    work.note(unreadable=len(bad), examples=bad)


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
    if spec.engine.kind == "openai":
        used = {"prompt_tokens": len(rows), "tokens": sum(int(row["n_tokens"]) for row in rows), "shards": 1}
        work.note(spent={work.run_id: used})


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


@pytest.fixture
def make_site(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Site]:
    """Sites that share one Redis; lost messages and backed-off shards are sent again at once."""
    monkeypatch.setattr(decide_module, "LOST_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(decide_module, "FIRST_BACKOFF_SECONDS", 0.0)
    return lambda storage: Site(storage, redis_url)


@pytest.fixture
def site(storage: Path, make_site: Callable[[Path], Site]) -> Site:
    return make_site(storage)
