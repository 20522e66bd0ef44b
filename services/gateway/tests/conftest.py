"""A gateway over an empty storage, model folders, and a finished run in every detail that the gateway shows."""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from overproof.gateway.app import create_app
from overproof.gateway.context import Context
from overproof.gateway.settings import GatewaySettings
from overproof.shared.artifacts import Artifacts
from overproof.shared.recipe import (
    DataSource,
    EngineOptions,
    PromptOptions,
    Recipe,
    SelectionPolicy,
    TrainingOptions,
)
from overproof.shared.records import Receipt
from overproof.shared.runs import RunRecord, Runs, RunState, RunStatus, StageState, StageStatus
from overproof.shared.specs import (
    CompareSpec,
    Evaluation,
    ModelRef,
    PrepareSpec,
    ReportSpec,
    SampleSpec,
    Sampling,
    SelectSpec,
    Spec,
    TrainSpec,
)
from overproof.shared.tables import SCHEMAS, table_of
from overproof.shared.topology import Role, Stage

NOBODY = "redis://127.0.0.1:1/0"
"""Nothing listens there."""

RECIPE: dict[str, Any] = {
    "name": "tiny",
    "data": {
        "train": {"generator": "demo-math", "split": "train", "n": 20},
        "test": {"generator": "demo-math", "split": "test", "n": 5},
    },
    "models": {"teacher": "teacher", "student": "base"},
    "sampling": {"max_tokens": 128},
    "evaluation": {"max_tokens": 128},
    "engine": {"kind": "transformers"},
}


@pytest.fixture
def settings(storage: Path, tmp_path: Path) -> GatewaySettings:
    (tmp_path / "models").mkdir()
    (tmp_path / "data").mkdir()
    return GatewaySettings(
        storage=str(storage), redis_url=NOBODY, model_root=tmp_path / "models", data_root=tmp_path / "data"
    )


@pytest.fixture
def make_client() -> Iterator[Callable[[GatewaySettings], TestClient]]:
    opened: list[TestClient] = []

    def make(settings: GatewaySettings) -> TestClient:
        client = TestClient(create_app(settings), base_url="http://127.0.0.1", raise_server_exceptions=False)
        opened.append(client)
        return client

    yield make
    for client in opened:
        client.close()


@pytest.fixture
def client(settings: GatewaySettings, make_client: Callable[[GatewaySettings], TestClient]) -> TestClient:
    return make_client(settings)


@pytest.fixture
def context(client: TestClient) -> Context:
    app = client.app
    assert isinstance(app, FastAPI)
    found: Context = app.state.context
    return found


@pytest.fixture
def runs(context: Context) -> Runs:
    return context.runs


@pytest.fixture
def model_folder(settings: GatewaySettings) -> Callable[..., Path]:
    """Makes a checkpoint folder; `without` names files to leave out, `config` changes config.json."""

    def make(name: str, *, without: tuple[str, ...] = (), config: dict[str, Any] | None = None) -> Path:
        folder = settings.model_root / name
        folder.mkdir(parents=True)
        files = {
            "config.json": json.dumps({"model_type": "llama", "max_position_embeddings": 1024} | (config or {})),
            "tokenizer.json": "{}",
            "tokenizer_config.json": "{}",
            "chat_template.jinja": "{{ messages[0].content }}",
            "model.safetensors": f"weights of {name}",
            "README.md": "---\nlicense: apache-2.0\n---\n",
        }
        for file, content in files.items():
            if file not in without:
                (folder / file).write_text(content)
        return folder

    return make


@pytest.fixture
def models(model_folder: Callable[..., Path]) -> tuple[Path, Path]:
    return model_folder("teacher"), model_folder("base")


@pytest.fixture
def is_problem() -> Callable[..., dict[str, Any]]:
    """Asserts that an answer is a problem body of this status and kind, and returns it."""

    def check(response: Any, status: int, kind: str) -> dict[str, Any]:
        assert response.status_code == status, response.text
        assert response.headers["content-type"] == "application/problem+json"
        body: dict[str, Any] = response.json()
        assert (body["type"], body["status"]) == (f"urn:overproof:error:{kind}", status)
        assert body["request_id"] == response.headers["x-request-id"]
        assert "Traceback" not in response.text
        return body

    return check


class FinishedRun(NamedTuple):
    run_id: str
    refs: dict[str, str]


TABLES = json.loads((Path(__file__).parent / "cases" / "finished_run.json").read_text(encoding="utf-8"))
"""Rows of each table of the finished run, by part."""


def tables_of(name: str) -> list[pa.Table]:
    schema = SCHEMAS[name]
    blank = dict.fromkeys(schema.names)
    return [table_of([blank | row for row in part], schema) for part in TABLES[name]]


def finish(
    artifacts: Artifacts, spec: Spec, schema_name: str | None, tables: list[Any], files: dict[str, bytes]
) -> str:
    """An artifact with one part per table, one shard per part, and one shard of files; complete."""
    artifacts.declare(spec)
    stamp = {"owner": "test", "started_at": 0.0, "finished_at": 1.0}
    for shard, table in enumerate(tables):
        part = artifacts.write_part(spec.ref, shard, table.schema, [table])
        artifacts.publish(spec.ref, Receipt(shard=shard, parts=(part,), **stamp))
    if files:
        parts = []
        for name, content in files.items():
            path = artifacts.files.temporary("made")
            path.write_bytes(content)
            parts.append(artifacts.write_file(spec.ref, path, name))
        artifacts.publish(spec.ref, Receipt(shard=len(tables), parts=tuple(parts), **stamp))
    artifacts.close(spec.ref, len(tables) + bool(files), schema_name)
    return spec.ref


@pytest.fixture
def finished_run(context: Context) -> FinishedRun:
    """A run that has succeeded, with one artifact of every kind that people fetch."""
    artifacts = context.artifacts()
    teacher = ModelRef(name="teacher", kind="folder", location="teacher")
    problems = finish(
        artifacts, PrepareSpec(source=DataSource(generator="demo-math", split="train", n=6), rows_per_part=3), "problems",
        tables_of("problems"), {},
    )  # fmt: skip
    sample = SampleSpec(
        problems=problems, model=teacher, role=Role.TEACHER, round=1, prompt=PromptOptions(), sampling=Sampling(),
        engine=EngineOptions(kind="transformers"),
    )  # fmt: skip
    completions = finish(artifacts, sample, "completions", tables_of("completions"), {})
    select = SelectSpec(
        problems=problems,
        completions=(completions,),
        grades=(),
        tests=(),
        policy=SelectionPolicy(),
        prompt=PromptOptions(),
    )
    selected = finish(artifacts, select, "selected", tables_of("selected"), {})
    train = TrainSpec(
        selected=selected, student=teacher, options=TrainingOptions(), policy="shortest", round=1, teacher="teacher"
    )
    checkpoint = {
        "checkpoint/config.json": json.dumps({"model_type": "llama", "max_position_embeddings": 1024}).encode(),
        "checkpoint/tokenizer.json": b"{}",
        "checkpoint/chat_template.jinja": b"{{ messages }}",
        "checkpoint/model.safetensors": b"student",
        "log.html": b"<script>alert(1)</script>",
    }
    student = finish(artifacts, train, None, [], checkpoint)
    one = Evaluation(
        label="teacher",
        role=Role.TEACHER,
        round=0,
        model="teacher",
        completions=completions,
        grades="grade/" + "0" * 32,
    )
    compare = CompareSpec(problems=problems, evaluations=(one,), baseline="teacher")
    comparison = finish(artifacts, compare, "comparison", tables_of("comparison"), {"comparison.json": b"{}"})
    report = ReportSpec(run_name="tiny", compare=comparison, comparison=compare, arms=(), recipe_json="{}")
    pages = {"report.html": b"<!doctype html><title>r</title>", "report.json": b'{"ok": true}', "report.md": b"# r"}
    refs = {
        "problems/train": problems,
        "completions/train/round-1/pass-1": completions,
        "selected/round-1/shortest": selected,
        "student/round-1/shortest": student,
        "comparison": comparison,
        "report": finish(artifacts, report, None, [], pages),
    }
    run_id = "2026-11-24-aaaaaa"
    write_run(context.runs, run_id, state=RunState.SUCCEEDED, artifacts=refs)
    return FinishedRun(run_id, refs)


def write_run(
    runs: Runs, run_id: str, *, state: RunState | None = None, created_at: float | None = None,
    artifacts: dict[str, str] | None = None, stages: tuple[StageStatus, ...] = (),
) -> RunRecord:  # fmt: skip
    """A run with the status that the pipeline would have written."""
    now = time.time() if created_at is None else created_at
    record = RunRecord(run_id=run_id, created_at=now, recipe=Recipe.model_validate(RECIPE))
    runs.create(record)
    if state is not None:
        runs.put_status(
            RunStatus(
                run_id=run_id, name="tiny", state=state, created_at=now, updated_at=now + 1, stages=stages,
                artifacts=artifacts or {}, finished_at=now + 1 if state is RunState.SUCCEEDED else None,
            )
        )  # fmt: skip
    return record


@pytest.fixture
def recipe() -> dict[str, Any]:
    """A small recipe that uses the model folders `teacher` and `base`."""
    copy: dict[str, Any] = json.loads(json.dumps(RECIPE))
    return copy


@pytest.fixture
def change() -> Callable[[dict[str, Any], str, Any], dict[str, Any]]:
    """Sets the field at a dotted path, and returns the whole."""

    def put(whole: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
        place = whole
        *parents, last = path.split(".")
        for name in parents:
            place = place.setdefault(name, {})
        place[last] = value
        return whole

    return put


@pytest.fixture
def add_run(runs: Runs) -> Callable[..., RunRecord]:
    """Writes a run into storage, as the gateway and the pipeline would have."""
    return functools.partial(write_run, runs)


@pytest.fixture
def stage() -> Callable[..., StageStatus]:
    """Makes a stage as the pipeline last saw it."""
    return make_stage


def make_stage(ref: str, state: StageState = StageState.RUNNING) -> StageStatus:
    return StageStatus(label="sample · teacher", stage=Stage(ref.partition("/")[0]), ref=ref, state=state)
