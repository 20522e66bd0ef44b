"""The contract that every real engine keeps, on a tiny random Llama.

`openai` is the engine behind HTTP, with a server of the test's own around the Transformers engine; `openai-vllm` is the same
with vLLM's own server in another process.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from chat_server import ChatServer, served_by

from overproof.inference.adapters.engines import open_engine
from overproof.inference.ports import Completion, Engine, Request
from overproof.inference.settings import InferenceSettings
from overproof.shared.errors import Stopped
from overproof.shared.recipe import EngineOptions
from overproof.shared.specs import Sampling
from overproof.shared.topology import FinishReason

pytest.importorskip("transformers", reason="Transformers is not installed")
CONTEXT = 256
SECONDS_TO_START = 500.0
"""Half a minute where nothing else runs."""
SECONDS_TO_END = 20.0
"""Killed processes take a moment."""
NEAR_TIE = 0.01
"""Between the two best logits, whose standard deviation is about 1.2."""
HALF_A_CHARACTER = "\N{REPLACEMENT CHARACTER}"


def needs(library: str, *marks: pytest.MarkDecorator) -> list[pytest.MarkDecorator]:
    return [*marks, pytest.mark.skipif(importlib.util.find_spec(library) is None, reason=f"{library} is not installed")]


KINDS = [
    "transformers",
    pytest.param("openai", marks=needs("openai")),
    pytest.param("vllm", marks=needs("vllm", pytest.mark.vllm)),
    pytest.param("openai-vllm", marks=needs("vllm", pytest.mark.vllm)),
]
Open = Callable[[], Engine]


@pytest.fixture(scope="module", params=KINDS)
def open_one(request: pytest.FixtureRequest, checkpoint: Path) -> Iterator[Open]:
    """Loads an engine of one kind."""
    kind = request.param
    local = EngineOptions(kind="transformers", dtype="float32", batch_size=16)
    if kind == "vllm":
        options = {"enforce_eager": True, "max_num_seqs": 16}
        local = EngineOptions(kind="vllm", dtype="float32", gpu_memory_utilization=0.3, options=options)
    with contextlib.ExitStack() as stack:
        if not kind.startswith("openai"):
            yield lambda: open_engine(checkpoint, local, InferenceSettings())
            return
        if kind == "openai":
            behind = open_engine(checkpoint, local, InferenceSettings())
            stack.callback(behind.close)
            server = ChatServer(served_by(behind))
            stack.callback(server.close)
            settings = server.settings(openai_concurrency=8)
        else:
            url = stack.enter_context(vllm_server(checkpoint))
            settings = InferenceSettings(openai_base_url=url, openai_concurrency=16, openai_retries=1)
        yield lambda: open_engine(None, EngineOptions(kind="openai"), settings, served="tiny")


@contextlib.contextmanager
def vllm_server(checkpoint: Path) -> Iterator[str]:
    """`vllm serve`, until the tests are over."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint), "--served-model-name", "tiny",
        "--dtype", "float32", "--enforce-eager", "--max-num-seqs", "16", "--gpu-memory-utilization", "0.3", "--no-enable-chunked-prefill",
        "--host", "127.0.0.1", "--port", str(port),
    ]  # fmt: skip
    process = subprocess.Popen(command, start_new_session=True)
    try:
        deadline = time.monotonic() + SECONDS_TO_START
        while not _answers(f"http://127.0.0.1:{port}/health"):
            assert process.poll() is None, "vLLM's server ended"
            assert time.monotonic() < deadline, "vLLM's server did not start"
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=60)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its children too, if any is left


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5) as reply:  # noqa: S310
        return bool(reply.status == 200)
    return False


@pytest.fixture(scope="module")
def engine(open_one: Open) -> Iterator[Engine]:
    engine = open_one()
    yield engine
    engine.close()


@pytest.fixture
def is_served(request: pytest.FixtureRequest) -> bool:
    """A server says in its own words why it refuses a prompt, and does not count it; vLLM's leaves out half a character."""
    return "openai" in request.node.callspec.params["open_one"]


def asked(n: int, draws: int = 1, *, text: str = "What is {} + 7? Add them.") -> list[Request]:
    """Prompts of different lengths."""
    return [
        Request(i, [{"role": "user", "content": text.format(i) + " Please." * (i % 5)}], tuple(i * 97 + k for k in range(draws)))
        for i in range(n)
    ]  # fmt: skip


def run(engine: Engine, requests: list[Request], **how: Any) -> dict[tuple[int, int], Completion]:
    sampling = Sampling(**({"max_tokens": 24} | how))
    made = list(engine.generate(requests, sampling, lambda: None))
    found = {(one.number, one.draw): one for one in made}
    assert len(found) == len(made) == sum(len(one.seeds) for one in requests)
    return found


def test_greedy_agrees_with_the_library(engine: Engine, checkpoint: Path, is_served: bool) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    written = _written_by_the_library(asked(150), checkpoint)
    assert {len(one.out) < 24 for one in written} == {True, False}
    found = run(engine, [one.request for one in written])
    for request, prompt_tokens, out in written:
        one = found[request.number, 0]
        stopped = out[-1] in range(2, 10)
        text = tokenizer.decode(out[:-1] if stopped else out, skip_special_tokens=True)
        assert one.text == text or (is_served and one.text == text.rstrip(HALF_A_CHARACTER))
        assert (one.n_tokens, one.prompt_tokens) == (len(out), prompt_tokens)
        assert one.finish_reason == (FinishReason.STOP if stopped else FinishReason.LENGTH)


class Written(NamedTuple):
    """What the library's own `generate` makes of a request, greedily."""

    request: Request
    prompt_tokens: int
    out: list[int]


def _written_by_the_library(requests: list[Request], checkpoint: Path) -> list[Written]:
    """Those without a near tie on the way, which kernels that round otherwise may decide otherwise."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    written = []
    for request in requests:
        ids = tokenizer.apply_chat_template(
            list(request.turns), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        made = model.generate(ids, do_sample=False, max_new_tokens=24, return_dict_in_generate=True, output_scores=True)
        best = torch.stack(made.scores).topk(2).values[:, 0]
        if (best[:, 0] - best[:, 1]).min() > NEAR_TIE:
            written.append(Written(request, ids.shape[1], made.sequences[0, ids.shape[1] :].tolist()))
    return written


def test_length_finish_has_max_tokens(engine: Engine) -> None:
    for one in run(engine, asked(6), max_tokens=5).values():
        assert one.n_tokens == 5 or one.finish_reason == FinishReason.STOP
        assert one.n_tokens <= 5


def test_end_of_sequence_is_counted_and_not_in_the_text(engine: Engine) -> None:
    found = run(engine, asked(30, 2), temperature=1.5, max_tokens=40).values()
    stopped = [one for one in found if one.finish_reason == FinishReason.STOP]
    assert stopped
    assert all("<|im_end|>" not in one.text and one.n_tokens >= 1 for one in stopped)
    assert {one.n_tokens for one in found if one.finish_reason == FinishReason.LENGTH} == {40}


def test_stop_string_ends_the_text_before_it(engine: Engine) -> None:
    plain = run(engine, asked(8))
    text = max((one.text for one in plain.values()), key=len)
    stop = text[len(text) // 2 : len(text) // 2 + 2]
    found = run(engine, asked(8), stop=(stop,))
    assert any(one.text == text.partition(stop)[0] for one in found.values())
    for key, one in found.items():
        assert stop not in one.text
        assert one.text == plain[key].text.partition(stop)[0]
        if stop in plain[key].text:
            assert one.finish_reason == FinishReason.STOP
            assert one.n_tokens < plain[key].n_tokens or plain[key].text.endswith(stop)


def test_too_long_prompt_is_one_row_with_the_reason(engine: Engine, is_served: bool) -> None:
    requests = asked(3)
    requests[1] = Request(1, [{"role": "user", "content": "long " * CONTEXT}], (1, 2))
    found = run(engine, requests)
    assert {key: one.finish_reason == FinishReason.ERROR for key, one in found.items()} == {
        (0, 0): False, (1, 0): True, (1, 1): True, (2, 0): False,
    }  # fmt: skip
    assert "context" in found[1, 0].text
    assert str(CONTEXT) in found[1, 0].text
    assert found[1, 0].n_tokens == 0
    assert is_served or found[1, 0].prompt_tokens > CONTEXT


def test_completion_ends_at_the_context(engine: Engine) -> None:
    request = Request(0, [{"role": "user", "content": "a b c " * 20}], tuple(range(4)))
    for one in run(engine, [request], temperature=0.3, max_tokens=1_000).values():
        assert one.prompt_tokens + one.n_tokens <= CONTEXT
        if one.finish_reason == FinishReason.LENGTH:
            assert one.prompt_tokens + one.n_tokens >= CONTEXT - 1


def test_template_that_refuses_a_prompt_is_one_row(engine: Engine, is_served: bool) -> None:
    requests = asked(2)
    requests[0] = Request(0, [{"role": "user", "content": "this word breaks the template"}], (1,))
    found = run(engine, requests)
    assert found[0, 0].finish_reason == FinishReason.ERROR
    assert "template" in found[0, 0].text or is_served
    assert found[1, 0].finish_reason != FinishReason.ERROR


def test_generation_ends_when_check_raises(engine: Engine) -> None:
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) > 3:
            raise Stopped("now")

    with pytest.raises(Stopped):
        list(engine.generate(asked(40, 4), Sampling(temperature=1, max_tokens=150), check))
    assert len(run(engine, asked(3))) == 3


def test_two_callers_at_once_each_get_their_own(engine: Engine) -> None:
    alone = [run(engine, asked(9)), run(engine, asked(5, text="{} times?"))]
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, engine, asked(9))
        second = pool.submit(run, engine, asked(5, text="{} times?"))
        both = [first.result(timeout=120), second.result(timeout=120)]
    for together, one in zip(both, alone, strict=True):
        assert {key: made.n_tokens for key, made in together.items()} == {
            key: made.n_tokens for key, made in one.items()
        }


def test_requests_are_read_lazily(engine: Engine) -> None:
    read: list[int] = []

    def source() -> Iterator[Request]:
        for request in asked(5_000):
            read.append(request.number)
            yield request

    made = engine.generate(source(), Sampling(max_tokens=2), lambda: None)
    next(made)
    assert len(read) < 2_500
    made.close()  # type: ignore[attr-defined]


def test_samples_of_one_prompt_differ(engine: Engine) -> None:
    found = run(engine, asked(1, 8), temperature=1.0)
    assert len({one.text for one in found.values()}) >= 7


def test_seeds_make_the_same_completions_in_any_company(engine: Engine) -> None:
    if not getattr(engine, "honours_seeds", True):
        pytest.skip("vLLM's CPU build draws with the engine's seed alone")
    how = {"temperature": 1.0, "top_p": 0.95, "max_tokens": 20}
    alone = run(engine, asked(4, 3), **how)
    crowd = run(engine, list(reversed(asked(12, 3))), **how)
    assert {key: crowd[key]._replace(mean_logprob=None) for key in alone} == {
        key: one._replace(mean_logprob=None) for key, one in alone.items()
    }


def test_counts_are_the_models_own(engine: Engine, checkpoint: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    requests = [Request(0, [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 7?"}], (5, 6))]
    found = run(engine, requests, temperature=0.8, max_tokens=9)
    ids = tokenizer.apply_chat_template(list(requests[0].turns), add_generation_prompt=True, return_dict=True)[
        "input_ids"
    ]
    for one in found.values():
        assert one.prompt_tokens == len(ids)
        assert 1 <= one.n_tokens <= 9
        assert one.think_tokens == 0
        assert (one.finish_reason == FinishReason.LENGTH) <= (one.n_tokens == 9)


def test_first_of_several_stop_strings_ends_the_text(engine: Engine) -> None:
    plain = run(engine, asked(8))
    texts = sorted((one.text for one in plain.values()), key=len)
    stops = (texts[-1][-3:], texts[-1][2:4])
    for key, one in run(engine, asked(8), stop=stops).items():
        assert one.text == min((plain[key].text.partition(stop)[0] for stop in stops), key=len)
        assert one.n_tokens <= plain[key].n_tokens


def test_nothing_asked_is_nothing_made(engine: Engine) -> None:
    assert run(engine, []) == {}


def test_closed_engine_leaves_nothing_and_another_one_loads(open_one: Open) -> None:
    threads, children = set(threading.enumerate()), children_of_this_process()
    for _ in range(2):
        engine = open_one()
        assert len(run(engine, asked(2), max_tokens=3)) == 2
        engine.close()
    left = [one for one in set(threading.enumerate()) - threads if type(engine).__name__ in one.name]
    assert left == []
    deadline = time.monotonic() + SECONDS_TO_END
    while not (gone := children_of_this_process() <= children) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert gone


def children_of_this_process() -> set[int]:
    """Process ids of what this process started and what is still there; zombies left out."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
            if int(parent) == os.getpid() and state != "Z":
                found.add(int(stat.parent.name))
    return found


def test_mean_logprob_is_a_logprob_or_absent(engine: Engine) -> None:
    for one in run(engine, asked(4), temperature=1.0).values():
        assert one.mean_logprob is None or one.mean_logprob < 0
