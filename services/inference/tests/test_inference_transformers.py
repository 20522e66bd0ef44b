"""What only the Transformers engine promises: exact seeds, whatever else runs in the batch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("transformers", reason="Transformers is not installed")
from overproof.inference.adapters import generation, slots  # noqa: E402
from overproof.inference.adapters.transformers_engine import TransformersEngine  # noqa: E402
from overproof.inference.ports import Completion, Request  # noqa: E402
from overproof.shared.errors import ModelError  # noqa: E402
from overproof.shared.recipe import EngineOptions  # noqa: E402
from overproof.shared.specs import Sampling  # noqa: E402
from overproof.shared.topology import FinishReason  # noqa: E402

SAMPLING = Sampling(temperature=1.0, max_tokens=80)
Key = tuple[int, int]


def asked(n: int, draws: int = 3) -> list[Request]:
    return [
        Request(i, [{"role": "user", "content": f"What is {i} + 7?" + " Please." * (i * 7 % 11)}], tuple(i * 97 + k for k in range(draws)))
        for i in range(n)
    ]  # fmt: skip


def engine_of(checkpoint: Path, batch_size: int, **how: Any) -> TransformersEngine:
    return TransformersEngine(checkpoint, EngineOptions(kind="transformers", batch_size=batch_size, **how))


def run(engine: TransformersEngine, requests: list[Request], sampling: Sampling = SAMPLING) -> dict[Key, Completion]:
    return {(one.number, one.draw): one for one in engine.generate(requests, sampling, lambda: None)}


def texts(found: dict[Key, Completion]) -> dict[Key, tuple[str, int]]:
    return {key: (one.text, one.n_tokens) for key, one in found.items()}


@pytest.fixture(scope="module")
def alone(checkpoint: Path) -> dict[Key, Completion]:
    """Each sample generated with nothing else in the batch."""
    return run(engine_of(checkpoint, 1), asked(20))


@pytest.mark.parametrize("batch_size", [2, 7, 16, 64])
def test_sample_does_not_depend_on_the_batch(
    checkpoint: Path, alone: dict[Key, Completion], batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "SPARE_COLUMNS", 5)  # rebuild often
    monkeypatch.setattr(generation, "LOOK_AHEAD", 9)
    monkeypatch.setattr(generation, "PREFILL_TOKENS", 150)
    found = run(engine_of(checkpoint, batch_size), asked(20))
    assert texts(found) == texts(alone)
    assert len({one.n_tokens for one in alone.values()}) > 10, "lengths must differ for this test to mean something"


def test_sample_does_not_depend_on_which_others_are_asked(checkpoint: Path, alone: dict[Key, Completion]) -> None:
    found = texts(run(engine_of(checkpoint, 8), asked(20)[5:9]))
    assert found == {key: value for key, value in texts(alone).items() if 5 <= key[0] < 9}


def test_other_seeds_give_other_texts(checkpoint: Path, alone: dict[Key, Completion]) -> None:
    assert len({one.text for one in alone.values()}) > 50
    other = [request._replace(seeds=(request.seeds[0] + 10**6,)) for request in asked(10)]
    found = run(engine_of(checkpoint, 8), other)
    assert sum(one.text == alone[key].text for key, one in found.items()) <= 1


def test_mean_logprob_is_that_of_the_text(checkpoint: Path) -> None:
    engine = engine_of(checkpoint, 8)
    request = asked(1)[0]
    one = run(engine, [request], Sampling(max_tokens=12))[0, 0]
    prompt = engine.chat.encode(request.turns)
    with torch.inference_mode():
        ids = engine.model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12)
        logprobs = engine.model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
    expected = logprobs.gather(-1, ids[0, len(prompt) :, None]).mean().item()
    assert one.mean_logprob == pytest.approx(expected, abs=1e-4)


def test_out_of_memory_halves_the_batch_and_changes_nothing(
    checkpoint: Path, alone: dict[Key, Completion], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engine_of(checkpoint, 16)
    forward = engine.model.forward
    sizes: list[int] = []

    def short_of_memory(*, input_ids: Any, **inputs: Any) -> Any:
        sizes.append(len(input_ids))
        if len(input_ids) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(input_ids=input_ids, **inputs)

    monkeypatch.setattr(engine.model, "forward", short_of_memory)
    assert texts(run(engine, asked(20))) == texts(alone)
    assert max(sizes) > 5


def test_prompt_too_large_for_the_memory_alone_is_a_row(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = engine_of(checkpoint, 4)

    def no_memory(**inputs: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(engine.model, "forward", no_memory)
    found = run(engine, asked(3))
    assert len(found) == 9
    assert all(one.finish_reason == FinishReason.ERROR and "memory" in one.text for one in found.values())


def test_places_follow_the_memory(checkpoint: Path) -> None:
    engine = engine_of(checkpoint, 64)
    engine.cache_bytes = (
        2 * 2 * 2 * 32 * 4 * 100 * 10
    )  # keys and values, layers, heads, size, float32, tokens, sequences
    assert engine.fitting(100) == 10
    assert engine.fitting(10**6) == 1


def test_think_tokens_are_counted_apart(checkpoint: Path) -> None:
    chat = engine_of(checkpoint, 1).chat
    chat.think_end = 9
    assert [chat.think_tokens(ids) for ids in ([1, 9, 3], [9, 1, 9, 4, 5], [1, 2])] == [2, 3, 0]


def test_vllm_options_are_refused(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match=r"neither engine\.options"):
        engine_of(checkpoint, 1, options={"enforce_eager": True})


def test_longer_context_than_the_models_is_refused(checkpoint: Path) -> None:
    with pytest.raises(ModelError, match="more than the 256 positions of tiny"):
        engine_of(checkpoint, 1, max_model_len=4096)
