"""A small world to select from, compare in and report on: real artifacts, a real Redis-protocol server, invented rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from overproof.reporting import regrading, reviewing, tasks
from overproof.reporting.settings import ReportingSettings
from overproof.shared.artifacts import Artifacts
from overproof.shared.files import Files
from overproof.shared.messages import ShardRequest
from overproof.shared.recipe import DataSource, EngineOptions, GradingOptions, PromptOptions, TrainingOptions
from overproof.shared.records import FilePart, Receipt
from overproof.shared.specs import GradeSpec, ModelRef, PrepareSpec, SampleSpec, Sampling, Spec, TrainSpec, VoteSpec
from overproof.shared.tables import COMPLETIONS, GRADES, PROBLEMS, VOTES, rows_of, table_of
from overproof.shared.topology import Role, Service
from overproof.shared.worker import Worker

TYPES = ("Algebra", "Counting & Probability", "Geometry", "Number Theory")
MAX_TOKENS = 400
MAKERS = {
    "select": tasks.select,
    "review": reviewing.review,
    "changes": regrading.changes,
    "compare": tasks.compare,
    "report": tasks.report,
}


@pytest.fixture
def worker(tmp_path: Path, redis_url: str) -> Worker:
    settings = ReportingSettings(storage=str(tmp_path / "storage"), redis_url=redis_url, max_attempts=2)
    return Worker(Service.REPORTING, settings)


@pytest.fixture
def world(worker: Worker) -> World:
    return World(worker)


@pytest.fixture(scope="session")
def make_world() -> Callable[[Path, str], World]:
    """For tests that share one."""
    return lambda folder, redis_url: World(
        Worker(Service.REPORTING, ReportingSettings(storage=str(folder), redis_url=redis_url))
    )


class World:
    """Writes the artifacts of other services, and makes those of reporting through the worker."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.artifacts: Artifacts = worker.artifacts
        self.files: Files = worker.artifacts.files

    def make(self, spec: Spec) -> str:
        """Declare the artifact, make its one shard as the queue would, close it when it was published."""
        self.artifacts.declare(spec)
        request = ShardRequest(stage=spec.stage, key=spec.key, shard=0, run_id="test")
        self.worker.make_shard(request, type(spec), MAKERS[spec.stage])
        if self.artifacts.is_published(spec.ref, 0):
            self.artifacts.close(spec.ref, 1, None)
        return spec.ref

    def failure(self, spec: Spec) -> str:
        """The sentence that a shard failed with."""
        self.make(spec)
        return self.artifacts.failure(spec.ref, 0).message

    def problems(
        self, n: int, *, per_part: int = 50, name: str = "test", groups: str = "g", odd: str | None = None
    ) -> str:
        """n problems; `odd` becomes the statement and the type of the first."""
        spec = PrepareSpec(
            source=DataSource(generator="demo-math", n=n, split=name, seed=per_part, license=groups),
            rows_per_part=per_part,
        )
        rows = [problem(i, name, groups) for i in range(n)]
        if odd is not None:
            rows[0] |= {"problem": odd, "type": odd}
        return self._store(spec, PROBLEMS, [rows[i : i + per_part] for i in range(0, n, per_part)])

    def evaluate(
        self,
        problems: str,
        *,
        name: str,
        accuracy: float,
        tokens: float,
        role: Role = Role.STUDENT,
        round: int = 1,
        samples: int = 1,
        first_sample: int = 0,
        seed: int = 0,
        max_tokens: int = MAX_TOKENS,
        text: str | None = None,
        verdict: str | None = None,
    ) -> tuple[str, str]:
        """(completions, grades) of an invented model; harder levels are missed more often and take longer."""
        spec = SampleSpec(
            problems=problems,
            model=ModelRef(name=name, kind="folder", location=name),
            role=role,
            round=round,
            prompt=PromptOptions(),
            sampling=Sampling(samples=samples, first_sample=first_sample, temperature=0.7, max_tokens=max_tokens),
            engine=EngineOptions(kind="canned"),
        )
        grading = GradeSpec(completions=spec.ref, problems=problems, options=GradingOptions())
        completions, grades = [], []
        for part in range(len(self.artifacts.parts(problems))):
            rng = np.random.default_rng([seed, part, *name.encode()])
            drawn = [
                invent(row, first_sample + s, rng, accuracy, tokens, text)
                for batch in self.artifacts.read(problems, PROBLEMS, part=part)
                for row in batch.to_pylist()
                for s in range(samples)
            ]
            fixed = {"round": round, "role": role, "model": name, "prompt_tokens": 30, "spec": spec.likeness}
            completions.append([row | fixed for row, _ in drawn])
            judged = {"grader": "1", "spec": grading.likeness(spec.likeness)}
            grades.append([
                grade | judged | ({"verdict": verdict} if verdict and i == 0 else {}) for i, (_, grade) in enumerate(drawn)
            ])  # fmt: skip
        self._store(spec, COMPLETIONS, completions, notes={"busy_seconds": 2.5, "tokens": 1000})
        self._store(grading, GRADES, grades)
        return spec.ref, grading.ref

    def vote(self, problems: str, against: int, *, number: int = 1, readable: bool = True) -> tuple[int, str]:
        """(round, votes) in which four of four completions of the first `against` problems contradict the gold answer."""
        grades = (f"grade/{number:032d}",)
        spec = VoteSpec(problems=problems, grades=grades, options=GradingOptions())
        parts, seen = [], 0
        for part in range(len(self.artifacts.parts(problems))):
            rows = list(rows_of(self.artifacts.read(problems, PROBLEMS, part=part)))
            parts.append([ballots(row, seen + i >= against, readable) for i, row in enumerate(rows)])
            seen += len(rows)
        return number, self._store(spec, VOTES, parts)

    def train(self, selected: str, *, policy: str, round: int = 1, label: str = "student") -> str:
        """A finished training: a checkpoint's stand-in, its metrics, its notes."""
        spec = TrainSpec(
            selected=selected,
            student=ModelRef(name="student", kind="folder", location="student"),
            options=TrainingOptions(),
            policy=policy,
            round=round,
            teacher="teacher",
        )
        self.artifacts.declare(spec)
        lines = [
            {"step": i, "loss": 2.2 / (1 + i / 40) + 0.2, "learning_rate": 1e-3, "tokens_per_second": 3100 + i % 7 * 40, "seconds": i / 4}
            for i in range(1, 201)
        ]  # fmt: skip
        lines += [{"step": i, "val_loss": 2.2 / (1 + i / 40) + 0.26} for i in (50, 100, 150, 200)]
        lines += [
            {"step": i, "probe_n": 32, "probe_tokens_mean": 60.0 - i / 8, "probe_tokens_error": 2.5, "probe_truncated_share": 0.0,
             "probe_judged": 32, "probe_correct": 8 + i // 20, "probe_accuracy": (8 + i // 20) / 32, "probe_verdicts": {"correct": 8 + i // 20}}
            for i in (0, 100, 200)
        ]  # fmt: skip
        notes = {"steps": 200, "val_loss": 0.63, "fit_seconds": 51.2, "device": "cpu", "tokens": 155_000}
        parts = []
        card = (
            "---\nlibrary_name: transformers\n---\n\n# A student\n\n## Results\n\nNone yet.\n\n## Licences\n\n- all\n"
        )
        files = {"config.json": "{}", "metrics.jsonl": "\n".join(map(json.dumps, lines)), "checkpoint/README.md": card}
        for name, text in files.items():
            path = self.files.temporary(self.artifacts.folder(spec.ref))
            path.write_text(text)
            parts.append(self.artifacts.write_file(spec.ref, path, name))
        receipt = Receipt(shard=0, parts=tuple(parts), notes=notes, owner="test", started_at=0.0, finished_at=51.2)
        self.artifacts.publish(spec.ref, receipt)
        self.artifacts.close(spec.ref, 1, None)
        return spec.ref

    def _store(self, spec: Spec, schema: Any, parts: list[list[dict]], notes: dict | None = None) -> str:
        """All parts; one shard per part, except that `prepare` makes many parts in one."""
        self.artifacts.declare(spec)
        written: list[FilePart] = []
        for i, rows in enumerate(parts):
            shard = 0 if isinstance(spec, PrepareSpec) else i
            written.append(
                self.artifacts.write_part(spec.ref, shard, schema, [table_of(rows, schema)], suffix=f"-{i:04d}")
            )
        shards = [tuple(written)] if isinstance(spec, PrepareSpec) else [(part,) for part in written]
        for i, own in enumerate(shards):
            self.artifacts.publish(
                spec.ref,
                Receipt(
                    shard=i, parts=own, notes=notes or {}, owner="test", started_at=0.0, finished_at=1_760_000_000.0
                ),
            )
        self.artifacts.close(spec.ref, len(shards), None)
        return spec.ref


def ballots(asked: dict[str, Any], agrees: bool, readable: bool) -> dict[str, Any]:
    """A row of VOTES: all four completions agree, with the gold answer or on 0."""
    names = {name: asked[name] for name in ("problem_id", "source")}
    answer = asked["answer"] if agrees else "0"
    counts = {"completions": 4, "answered": 4, "correct": 4 if agrees else 0, "votes": 4, "runner_up_votes": 0}
    return names | counts | {
        "gold": asked["answer"], "readable": readable, "answer": answer, "agrees": agrees, "samples": [0, 1, 2, 3], "runner_up": None,
    }  # fmt: skip


def problem(i: int, name: str, groups: str) -> dict[str, Any]:
    """One invented problem."""
    return {
        "problem_id": hashlib.sha256(f"{name}{i}".encode()).hexdigest()[:32],
        "group_id": f"{groups}{i}",
        "problem": f"Let $x_{{{i}}}=\\frac{{{i}}}{{2}}$. What is $2x_{{{i}}}+1$?",
        "answer": str(i + 1),
        "level": i % 5 + 1,
        "type": TYPES[i % len(TYPES)],
        "source": f"{name}:{i + 1}",
    }


def invent(
    asked: dict[str, Any], sample: int, rng: np.random.Generator, accuracy: float, tokens: float, text: str | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """A completion and its grade."""
    level = asked["level"]
    right = rng.random() < accuracy * (1.25 - 0.08 * level)
    length = int(tokens * (0.5 + 0.18 * level) * rng.lognormal(0, 0.35) * (1 if right else 1.5)) + 2
    cut = length >= MAX_TOKENS
    verdict = "truncated" if cut else "correct" if right else "wrong"
    answer = asked["answer"] if right else "0"
    body = text or f"We have $2\\cdot\\frac{{{answer}}}{{2}}$ in {length} steps, so it is \\boxed{{{answer}}}."
    completion = {
        "problem_id": asked["problem_id"],
        "sample": sample,
        "text": f"{body} ({sample})" if sample else body,
        "n_tokens": min(length, MAX_TOKENS),
        "finish_reason": "length" if cut else "stop",
        "seed": sample,
    }
    grade = {
        "problem_id": asked["problem_id"],
        "sample": sample,
        "verdict": verdict,
        "extracted": None if cut else answer,
        "gold": asked["answer"],
        "method": "boxed/exact",
        "reason": "" if right else f"{answer} is not {asked['answer']}",
        "seconds": 0.001,
    }
    return completion, grade
