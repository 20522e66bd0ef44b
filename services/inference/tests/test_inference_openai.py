"""The engine behind OpenAI's protocol, against a real HTTP server that answers as each test says."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("openai", reason="the openai client is not installed")

from chat_server import KEY, ChatServer, Reply, completion, refusal

from overproof.inference.adapters.engines import look_at_server, open_engine
from overproof.inference.ports import Completion, Request
from overproof.inference.settings import InferenceSettings
from overproof.shared.errors import EngineUnavailable, ModelError, OverproofError, Stopped
from overproof.shared.recipe import EngineOptions
from overproof.shared.specs import Sampling
from overproof.shared.topology import FinishReason

Run = Callable[..., list[Completion]]
OPENAI = EngineOptions(kind="openai")
SAMPLING = Sampling()


def say(body: dict[str, Any]) -> Reply:
    return completion(f"{body['messages'][-1]['content']} is {body['seed'] % 97}")


@pytest.fixture
def server() -> Iterator[ChatServer]:
    server = ChatServer(say)
    yield server
    server.close()


@pytest.fixture
def run(server: ChatServer) -> Run:
    """Completions by number and draw."""

    def run(
        n: int = 1, draws: int = 1, *, options: EngineOptions = OPENAI, model: str = "tiny",
        check: Callable[[], None] = lambda: None, sampling: Sampling = SAMPLING, **settings: Any,
    ) -> list[Completion]:  # fmt: skip
        engine = open_engine(None, options, server.settings(**settings), served=model)
        requests = [
            Request(i, [{"role": "user", "content": f"prompt {i}"}], tuple(2**62 + 1000 * i + k for k in range(draws)))
            for i in range(n)
        ]
        try:
            return sorted(engine.generate(requests, sampling, check))
        finally:
            engine.close()

    return run


def test_each_sample_is_one_request_with_its_own_seed(server: ChatServer, run: Run) -> None:
    sampling = Sampling(temperature=0.7, top_p=0.9, max_tokens=33, stop=("\n\n",))
    found = run(2, 3, sampling=sampling)
    assert [(one.number, one.draw) for one in found] == [(i, k) for i in range(2) for k in range(3)]
    assert {(one.n_tokens, one.prompt_tokens, one.finish_reason) for one in found} == {(5, 7, FinishReason.STOP)}
    seeds = {(2**62 + 1000 * i + k) % 2**31 for i in range(2) for k in range(3)}
    assert {body["seed"] for body in server.asked} == seeds
    body = server.asked[0]
    assert body["messages"] == [{"role": "user", "content": body["messages"][0]["content"]}]
    assert {name: body[name] for name in body if name not in ("messages", "seed")} == {
        "model": "tiny", "temperature": 0.7, "top_p": 0.9, "max_tokens": 33, "stop": ["\n\n"],
    }  # fmt: skip
    assert server.keys == {f"Bearer {KEY}"}


def test_options_add_rename_and_leave_out_fields(server: ChatServer, run: Run) -> None:
    given = {"max_tokens": "max_completion_tokens", "seed": None, "reasoning_effort": "low"}
    server.answer = lambda body: completion("x")
    run(options=OPENAI.model_copy(update={"options": given}), sampling=Sampling(max_tokens=9, top_k=5))
    body = server.asked[0]
    assert (body["max_completion_tokens"], body["reasoning_effort"], body["top_k"]) == (9, "low", 5)
    assert not {"max_tokens", "seed"} & body.keys()


@pytest.mark.parametrize(
    ("how", "sentence"),
    [
        ({"options": {"temperature": 0.3}}, "engine.options.temperature follows from the recipe's other fields"),
        ({"options": {"n": 4}}, "engine.options.n follows"),
        ({"tensor_parallel_size": 2}, "engine.tensor_parallel_size is decided by the server"),
        ({"max_model_len": 2048}, "engine.max_model_len is decided by the server"),
    ],
)
def test_options_of_others_are_refused(run: Run, how: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ModelError, match=sentence):
        run(options=OPENAI.model_copy(update=how))


@pytest.mark.parametrize(
    "trouble",
    [
        [refusal(429, "slow down", retry_after="0.01"), refusal(429, "slow down", retry_after_ms="5")],
        [refusal(500, "oops"), refusal(503, "starting")],
        [Reply(None, hang_up=True)],
        [refusal(429, "slow down", retry_after="0.01"), Reply(None, hang_up=True)],
    ],
    ids=["429", "5xx", "hung-up", "mixed"],
)
def test_trouble_that_passes_is_tried_again(server: ChatServer, run: Run, trouble: list[Reply]) -> None:
    server.next_replies.extend(trouble)
    (one,) = run()
    assert one.text == f"prompt 0 is {2**62 % 2**31 % 97}"
    assert len(server.asked) == len(trouble) + 1
    assert len({body["seed"] for body in server.asked}) == 1


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (refusal(429, "slow down", retry_after="0.01"), "answers 429 again and again: slow down"),
        (refusal(503, "starting", retry_after="0.01"), "answers 503 again and again: starting"),
        (Reply(None, hang_up=True), "does not answer"),
    ],
    ids=["429", "503", "hung-up"],
)
def test_server_that_stays_away_is_not_the_prompts_fault(
    server: ChatServer, run: Run, answer: Reply, sentence: str
) -> None:
    server.answer = lambda body: answer
    with pytest.raises(EngineUnavailable, match=sentence):
        run(openai_retries=1)
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (refusal(401, f"Incorrect API key provided: {KEY}"), r"refuses the API key \(401\)"),
        (refusal(403, "not in your country"), r"refuses the API key \(403\)"),
        (refusal(404, "no such model"), r"does not know tiny or the address \(404\): no such model"),
        (refusal(402, "Insufficient Balance"), "no credit left: Insufficient Balance"),
        (refusal(429, "You exceeded your quota", "insufficient_quota"), "no credit left: You exceeded your quota"),
        (Reply({"choices": completion("x").body["choices"]}), "does not say how many tokens"),
    ],
    ids=["401", "403", "404", "402", "quota", "no-usage"],
)  # fmt: skip
def test_error_that_concerns_all_prompts_ends_the_shard(
    server: ChatServer, run: Run, answer: Reply, sentence: str
) -> None:
    server.answer = lambda body: answer
    with pytest.raises(ModelError, match=sentence) as caught:
        run(20, openai_retries=0, openai_concurrency=2)
    assert caught.value.remedy
    assert KEY not in str(caught.value)
    assert len(server.asked) < 10


def test_nobody_listens(run: Run) -> None:
    with pytest.raises(EngineUnavailable, match=r"127.0.0.1:1 does not answer: All connection"):
        run(openai_base_url="http://user:secret@127.0.0.1:1/v1", openai_retries=0)
    with pytest.raises(ModelError, match="needs the address of a server") as caught:
        run(openai_base_url="127.0.0.1:1")
    assert "OVERPROOF_OPENAI_BASE_URL" in caught.value.remedy


@pytest.mark.parametrize(
    ("answer", "text", "tokens"),
    [
        (refusal(400, f"maximum context length is 256 tokens, {KEY}"), "(400): maximum context length is 256 tokens, …", 0),
        (refusal(422, "no"), "The server refused the prompt (422): no", 0),
        (refusal(500, "CUDA error"), "The server failed on the prompt (500): CUDA error", 0),
        (completion(None, finish="content_filter", tokens=3), "content filter withheld", 3),
        (completion(None, finish="tool_calls"), "for another reason: tool_calls", 5),
        (Reply({"error": {"message": "upstream fell over"}}), "without a completion: {'message': 'upstream fell over'}", 0),
    ],
    ids=["400", "422", "500", "filter", "tools", "no-choice"],
)  # fmt: skip
def test_one_bad_prompt_is_one_row(server: ChatServer, run: Run, answer: Reply, text: str, tokens: int) -> None:
    server.answer = lambda body: answer if body["messages"][-1]["content"] == "prompt 3" else say(body)
    found = run(6, openai_retries=0)
    assert [one.number for one in found if one.finish_reason == FinishReason.ERROR] == [3]
    assert text in found[3].text
    assert (found[3].n_tokens, found[2].n_tokens) == (tokens, 5)


def test_prompt_that_takes_too_long_is_one_row(server: ChatServer, run: Run) -> None:
    gate = threading.Event()

    def answer(body: dict[str, Any]) -> Reply:
        if body["messages"][-1]["content"] == "prompt 0":
            gate.wait(30)
        return say(body)

    server.answer = answer
    found = run(3, openai_retries=0, openai_timeout_seconds=0.5)
    gate.set()
    assert "did not answer within 0.5 seconds" in found[0].text
    assert found[1].finish_reason == found[2].finish_reason == FinishReason.STOP


def test_server_that_fails_on_every_prompt_is_down(server: ChatServer, run: Run) -> None:
    server.answer = lambda body: refusal(500, "CUDA error: device lost")
    with pytest.raises(EngineUnavailable, match=r"fails again and again.*device lost"):
        run(40, openai_retries=0)


def test_requests_at_once_are_bounded_over_all_shards(server: ChatServer) -> None:
    engine = open_engine(None, OPENAI, server.settings(openai_concurrency=3), served="tiny")
    requests = [Request(i, [{"role": "user", "content": str(i)}], (i,)) for i in range(30)]
    threads = [
        threading.Thread(target=lambda: list(engine.generate(requests, Sampling(), lambda: None))) for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    engine.close()
    assert len(server.asked) == 90
    assert 1 <= server.most_at_once <= 3


def test_stop_does_not_wait_for_the_server(server: ChatServer, run: Run) -> None:
    gate = threading.Event()

    def answer(body: dict[str, Any]) -> Reply:
        gate.wait(60)
        return say(body)

    def check() -> None:
        if server.asked:
            raise Stopped("now")

    server.answer = answer
    with pytest.raises(Stopped):
        run(50, check=check)
    assert not gate.is_set()
    gate.set()


def test_reasoning_is_text_before_the_answer(server: ChatServer, run: Run) -> None:
    replies = [
        completion("\\boxed{4}", reasoning_content="2 and 2\n", tokens=9),
        completion("\\boxed{4}", reasoning="2 and 2", tokens=9),
        completion(None, reasoning_content="2 and", finish="length"),
    ]
    replies[0].body["usage"]["completion_tokens_details"] = {"reasoning_tokens": 6}
    server.next_replies.extend(replies)
    first, second, third = run(3, openai_concurrency=1)
    assert first.text == second.text == "<think>\n2 and 2\n</think>\n\n\\boxed{4}"
    assert (first.n_tokens, first.think_tokens, second.think_tokens) == (9, 6, 0)
    assert (third.text, third.finish_reason) == ("<think>\n2 and", FinishReason.LENGTH)


def test_mean_logprob_is_asked_for_and_read(server: ChatServer, run: Run) -> None:
    reply = completion("x")
    tokens = [{"token": "x", "logprob": value, "bytes": None, "top_logprobs": []} for value in (-1.0, -2.0)]
    reply.body["choices"][0]["logprobs"] = {"content": tokens, "refusal": None}
    server.answer = lambda body: reply if body.get("logprobs") else say(body)
    (one,) = run(options=OPENAI.model_copy(update={"logprobs": True}))
    assert one.mean_logprob == -1.5
    assert run()[0].mean_logprob is None


# --- before a run ----------------------------------------------------------------------------------------------------


def test_look_finds_the_model_and_its_context(server: ChatServer) -> None:
    server.models = ({"id": "other", "object": "model"}, {"id": "tiny", "object": "model", "max_model_len": 256})
    assert look_at_server("tiny", server.settings()) == (True, 256)
    assert look_at_server("other", server.settings()) == (True, None)
    server.models = None
    assert look_at_server("anything", server.settings()) == (False, None)


@pytest.mark.parametrize(
    ("settings", "model", "sentence"),
    [
        ({}, "gpt-none", "does not serve gpt-none; it has tiny."),
        ({"openai_api_key": "sk-wrong"}, "tiny", r"refuses the API key \(401\)"),
        ({"openai_base_url": "http://127.0.0.1:1/v1"}, "tiny", "127.0.0.1:1 does not answer"),
        ({"openai_base_url": ""}, "tiny", "needs the address of a server"),
    ],
)
def test_look_refuses_with_the_reason(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any], model: str, sentence: str
) -> None:
    monkeypatch.setattr("overproof.inference.adapters.openai_server.LOOK_RETRIES", 0)
    with pytest.raises(ModelError, match=sentence) as caught:
        look_at_server(model, server.settings(**settings))
    assert caught.value.remedy
    assert not server.asked
    assert "sk-" not in str(caught.value)


def test_key_is_not_shown_with_the_settings(server: ChatServer) -> None:
    settings: InferenceSettings = server.settings()
    assert KEY not in repr(settings) + str(settings.model_dump())
    assert issubclass(ModelError, OverproofError)
