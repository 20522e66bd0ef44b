"""The contract that every real engine keeps, on a tiny random Llama."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from overproof.inference.adapters.engines import open_engine
from overproof.inference.ports import Completion, Engine, Request
from overproof.inference.settings import InferenceSettings
from overproof.shared.errors import Stopped
from overproof.shared.recipe import EngineOptions
from overproof.shared.specs import Sampling
from overproof.shared.topology import FinishReason

pytest.importorskip("transformers", reason="Transformers is not installed")
CONTEXT = 256
KINDS = [
    "transformers",
    pytest.param("vllm", marks=[
        pytest.mark.vllm,
        pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
    ]),
]  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def engine(request: pytest.FixtureRequest, checkpoint: Path) -> Iterator[Engine]:
    vllm = (
        {"options": {"enforce_eager": True, "max_num_seqs": 16}, "gpu_memory_utilization": 0.3}
        if request.param == "vllm"
        else {}
    )
    options = EngineOptions(kind=request.param, dtype="float32", batch_size=16, **vllm)
    engine = open_engine(checkpoint, options, InferenceSettings())
    yield engine
    engine.close()


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


def test_greedy_agrees_with_the_library(engine: Engine, checkpoint: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    requests = asked(12)
    found = run(engine, requests)
    for request in requests:
        ids = tokenizer.apply_chat_template(
            list(request.turns), add_generation_prompt=True, return_tensors="pt", return_dict=True
        )["input_ids"]
        out = model.generate(ids, do_sample=False, max_new_tokens=24)[0, ids.shape[1] :]
        one = found[request.number, 0]
        stopped = out[-1].item() in range(2, 10)
        assert one.text == tokenizer.decode(out[:-1] if stopped else out, skip_special_tokens=True)
        assert (one.n_tokens, one.prompt_tokens) == (len(out), ids.shape[1])
        assert one.finish_reason == (FinishReason.STOP if stopped else FinishReason.LENGTH)


def test_length_finish_has_max_tokens(engine: Engine) -> None:
    for one in run(engine, asked(6), max_tokens=5).values():
        assert one.n_tokens == 5 or one.finish_reason == FinishReason.STOP
        assert one.n_tokens <= 5


def test_end_of_sequence_is_counted_and_not_in_the_text(engine: Engine) -> None:
    found = run(engine, asked(60, 2), temperature=1.5, max_tokens=60).values()
    stopped = [one for one in found if one.finish_reason == FinishReason.STOP]
    assert stopped
    assert all("<|im_end|>" not in one.text and one.n_tokens >= 1 for one in stopped)
    assert {one.n_tokens for one in found if one.finish_reason == FinishReason.LENGTH} == {60}


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


def test_too_long_prompt_is_one_row_with_the_reason(engine: Engine) -> None:
    requests = asked(3)
    requests[1] = Request(1, [{"role": "user", "content": "long " * CONTEXT}], (1, 2))
    found = run(engine, requests)
    assert {key: one.finish_reason == FinishReason.ERROR for key, one in found.items()} == {
        (0, 0): False, (1, 0): True, (1, 1): True, (2, 0): False,
    }  # fmt: skip
    assert f"context is {CONTEXT}" in found[1, 0].text
    assert found[1, 0].n_tokens == 0
    assert found[1, 0].prompt_tokens > CONTEXT


def test_completion_ends_at_the_context(engine: Engine) -> None:
    request = Request(0, [{"role": "user", "content": "a b c " * 20}], tuple(range(4)))
    for one in run(engine, [request], temperature=0.3, max_tokens=1_000).values():
        assert one.prompt_tokens + one.n_tokens <= CONTEXT
        if one.finish_reason == FinishReason.LENGTH:
            assert one.prompt_tokens + one.n_tokens >= CONTEXT - 1


def test_template_that_refuses_a_prompt_is_one_row(engine: Engine) -> None:
    requests = asked(2)
    requests[0] = Request(0, [{"role": "user", "content": "this word breaks the template"}], (1,))
    found = run(engine, requests)
    assert found[0, 0].finish_reason == FinishReason.ERROR
    assert "template" in found[0, 0].text
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


def test_mean_logprob_is_a_logprob_or_absent(engine: Engine) -> None:
    for one in run(engine, asked(4), temperature=1.0).values():
        assert one.mean_logprob is None or one.mean_logprob < 0
