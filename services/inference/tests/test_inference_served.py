"""Shards of completions from a server: what is written, what is noted for the ledger, how they fail and stop."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai", reason="the openai client is not installed")
pytest.importorskip("transformers", reason="Transformers is not installed")

from chat_server import KEY, ChatServer, Reply, completion, refusal, served_by

from overproof.inference import spending, tasks
from overproof.inference.adapters.chat import Chat
from overproof.inference.adapters.transformers_engine import TransformersEngine
from overproof.inference.room import Room
from overproof.inference.settings import InferenceSettings
from overproof.inference.shelf import Shelf
from overproof.shared.messages import ShardRequest
from overproof.shared.recipe import EngineOptions, PromptOptions
from overproof.shared.specs import CheckModelSpec, ModelRef, SampleSpec, Sampling
from overproof.shared.tables import COMPLETIONS, rows_of
from overproof.shared.topology import Role, Stage
from overproof.shared.worker import Worker

SERVED = ModelRef(name="tiny", kind="served", location="tiny")
PRICED = EngineOptions(
    kind="openai", price_per_million_prompt_tokens=2.0, price_per_million_completion_tokens=10.0, budget_usd=5.0
)
SUMS = [f"What is {i} + 7?" for i in range(5)]
Publish = Callable[..., str]


class Bench:
    """Makes shards as the worker would."""

    def __init__(self, worker: Worker, settings: InferenceSettings) -> None:
        self.worker, self.settings, self.shelf = worker, settings, Shelf()

    def make(self, spec: SampleSpec | CheckModelSpec, run_id: str = "r") -> None:
        makers: dict[Stage, Callable[[Any], None]] = {
            Stage.SAMPLE: lambda work: tasks.sample(work, self.shelf, self.settings, Room(self.settings)),
            Stage.CHECK_MODEL: lambda work: tasks.check_model(work, self.settings),
        }
        self.worker.artifacts.declare(spec)
        request = ShardRequest(stage=spec.stage, key=spec.key, shard=0, run_id=run_id)
        self.worker.make_shard(request, type(spec), makers[spec.stage])

    def rows(self, spec: SampleSpec) -> list[dict[str, Any]]:
        return list(rows_of(self.worker.artifacts.read(spec.ref, COMPLETIONS, part=0)))


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[ChatServer]:
    """Around a real model."""
    engine = TransformersEngine(checkpoint, EngineOptions(kind="transformers", dtype="float32"))
    server = ChatServer(served_by(engine), models=({"id": "tiny", "object": "model", "max_model_len": 256},))
    yield server
    server.close()
    engine.close()


@pytest.fixture
def bench(worker: Worker, settings: InferenceSettings, server: ChatServer) -> Iterator[Bench]:
    answer = server.answer
    reached = {"openai_base_url": server.url, "openai_api_key": KEY, "openai_retries": 1, "openai_concurrency": 4}
    bench = Bench(worker, settings.model_copy(update=server.settings(**reached).model_dump(include=set(reached))))
    yield bench
    bench.shelf.close()
    server.answer = answer
    server.next_replies.clear()


def spec_of(problems: str, engine: EngineOptions = PRICED, **sampling: Any) -> SampleSpec:
    how = Sampling(**({"samples": 2, "temperature": 1.0, "max_tokens": 12, "seed": 5} | sampling))
    return SampleSpec(
        problems=problems, model=SERVED, role=Role.TEACHER, round=1, prompt=PromptOptions(), sampling=how, engine=engine
    )


def test_shard_of_a_server_is_as_any_other(bench: Bench, problems: Publish, checkpoint: Path) -> None:
    spec = spec_of(problems(SUMS))
    bench.make(spec)
    rows, chat = bench.rows(spec), Chat(checkpoint)
    assert [(row["problem_id"], row["sample"]) for row in rows] == [(f"0-{i}", k) for i in range(5) for k in range(2)]
    for row, problem in zip(rows[::2], SUMS, strict=True):
        assert row["prompt_tokens"] == len(chat.encode(spec.prompt.messages(problem)))
    assert len({row["text"] for row in rows}) > 5
    assert {row["finish_reason"] for row in rows} <= {"stop", "length"}
    assert KEY not in json.dumps([*rows, bench.worker.artifacts.receipt(spec.ref, 0).model_dump(mode="json")])


def test_receipt_says_which_run_pays_for_which_tokens(bench: Bench, problems: Publish) -> None:
    spec = spec_of(problems(SUMS))
    before = spending.SPENT.labels("teacher")._value.get()
    bench.make(spec, run_id="one")
    rows, notes = bench.rows(spec), bench.worker.artifacts.receipt(spec.ref, 0).notes
    prompt_tokens, tokens = (sum(row[name] for row in rows) for name in ("prompt_tokens", "n_tokens"))
    assert notes["spent"] == {"one": {"prompt_tokens": prompt_tokens, "tokens": tokens, "shards": 1}}
    spent = spending.SPENT.labels("teacher")._value.get() - before
    assert spent == pytest.approx((2 * prompt_tokens + 10 * tokens) / 1e6)
    bench.make(spec, run_id="two")  # delivered again, for a run that shares the artifact
    assert bench.worker.artifacts.receipt(spec.ref, 0).notes["spent"].keys() == {"one"}


def test_prices_and_budget_change_no_artifact(problems: Publish) -> None:
    free = EngineOptions(kind="openai")
    assert spec_of(ref := problems(SUMS), free).ref == spec_of(ref).ref
    assert spec_of(ref, free.model_copy(update={"logprobs": True})).ref != spec_of(ref).ref


def test_refused_prompt_is_a_row_and_too_many_fail_the_shard(bench: Bench, problems: Publish) -> None:
    mild = PRICED.model_copy(update={"min_success_ratio": 0.8})
    ref = problems([*SUMS, "long " * 300])
    bench.make(spec := spec_of(ref, mild))
    assert [row["finish_reason"] for row in bench.rows(spec)][-2:] == ["error", "error"]
    assert "context is 256" in bench.rows(spec)[-1]["text"]
    assert bench.worker.artifacts.receipt(spec.ref, 0).notes["errors"] == 2
    bench.make(strict := spec_of(ref))
    assert "2 of 12 completions of this shard failed" in bench.worker.artifacts.failure(strict.ref, 0).message


def test_refused_key_fails_the_shard_without_a_word_of_it(
    bench: Bench, problems: Publish, caplog: pytest.LogCaptureFixture
) -> None:
    bench.settings = bench.settings.model_copy(update={"openai_api_key": type(bench.settings.openai_api_key)("sk-old")})
    with caplog.at_level(logging.INFO):
        bench.make(spec := spec_of(problems(SUMS)))
    failure = bench.worker.artifacts.failure(spec.ref, 0)
    assert failure.kind == "ModelError"
    assert "refuses the API key (401)" in failure.message
    assert "OVERPROOF_OPENAI_API_KEY_FILE" in failure.remedy
    assert "sk-old" not in caplog.text + failure.model_dump_json()


def test_server_that_is_away_leaves_the_shard_to_be_tried_again(
    bench: Bench, server: ChatServer, problems: Publish
) -> None:
    server.answer = lambda body: refusal(503, "starting", retry_after="0.01")
    bench.make(spec := spec_of(problems(SUMS)))
    listing = bench.worker.artifacts.listing(spec.ref)
    assert (listing.done, listing.failed) == (set(), set())
    assert bench.worker.leases.attempts(spec.ref, 0) == 1
    assert "answers 503 again and again" in bench.worker.leases.last_error(spec.ref, 0)


def test_stopped_shard_is_handed_back_while_the_server_thinks(
    bench: Bench, server: ChatServer, problems: Publish
) -> None:
    gate = threading.Event()

    def answer(body: dict[str, Any]) -> Reply:
        bench.worker._end()
        gate.wait(60)
        return completion("late")

    server.answer = answer
    bench.make(spec := spec_of(problems(SUMS)))
    assert not gate.is_set()
    gate.set()
    listing = bench.worker.artifacts.listing(spec.ref)
    assert (listing.done, listing.failed) == (set(), set())
    assert bench.worker.leases.attempts(spec.ref, 0) == 0


def check_spec(problems: str, **how: Any) -> CheckModelSpec:
    fields = {
        "model": SERVED,
        "problems": problems,
        "prompt": PromptOptions(),
        "max_tokens": 30,
        "engine": PRICED,
    }
    return CheckModelSpec(**(fields | how))


def test_check_asks_the_server_for_its_models_and_nothing_else(
    bench: Bench, server: ChatServer, problems: Publish
) -> None:
    server.asked.clear()
    bench.make(spec := check_spec(problems(SUMS)))
    text = bench.worker.artifacts.files.read(f"artifacts/{spec.ref}/check.json")
    found = json.loads(text)
    assert (found["engine"], found["listed"], found["context"], found["fits"]) == ("openai", True, 256, True)
    assert server.asked == []
    assert KEY.encode() not in text


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"model": SERVED.model_copy(update={"location": "absent"})}, "does not serve absent; it has tiny"),
        ({"max_tokens": 256}, "served with a context of 256 tokens, too few for max_tokens 256"),
        ({"engine": PRICED.model_copy(update={"dtype": "float16"})}, "engine.dtype is decided by the server"),
    ],
)
def test_check_refuses_before_anything_is_sent(
    bench: Bench, problems: Publish, how: dict[str, Any], sentence: str
) -> None:
    bench.make(spec := check_spec(problems(SUMS), **how))
    failure = bench.worker.artifacts.failure(spec.ref, 0)
    assert sentence in failure.message
    assert failure.remedy
