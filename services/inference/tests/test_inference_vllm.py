"""What only vLLM does: graphs, log-probabilities from the engine, and how it fails. Its GPU and CPU builds alike."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from overproof.inference.adapters.engines import rehearse
from overproof.inference.ports import Completion, Request
from overproof.inference.shelf import Shelf
from overproof.shared.errors import EngineUnavailable, ModelError
from overproof.shared.recipe import EngineOptions
from overproof.shared.specs import Sampling

pytest.importorskip("vllm", reason="vLLM is not installed")
pytestmark = pytest.mark.vllm
OPTIONS = EngineOptions(
    kind="vllm", dtype="float32", gpu_memory_utilization=0.3, logprobs=True,
    options={"enforce_eager": True, "max_num_seqs": 8},
)  # fmt: skip


NGRAM = '{"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4, "prompt_lookup_min": 2}'


def open_engine(folder: Path, **more: Any) -> Any:
    from overproof.inference.adapters.vllm_engine import VllmEngine

    return VllmEngine(folder, OPTIONS.model_copy(update={"options": OPTIONS.options | more}))


def ask(engine: Any, n: int = 3, **how: Any) -> list[Completion]:
    requests = [Request(i, [{"role": "user", "content": f"What is {i} + 7?"}], (i,)) for i in range(n)]
    return sorted(engine.generate(requests, Sampling(**({"max_tokens": 12} | how)), lambda: None))


@pytest.fixture(scope="module")
def engine(checkpoint: Path) -> Iterator[Any]:
    engine = open_engine(checkpoint)
    yield engine
    engine.close()


@pytest.fixture
def broken(checkpoint: Path, tmp_path: Path) -> Path:
    """A copy of the checkpoint, to break."""
    return Path(shutil.copytree(checkpoint, tmp_path / "broken"))


def test_mean_logprob_is_what_the_model_says(engine: Any, checkpoint: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32)
    for one in ask(engine):
        prompt = engine.prompt(Request(0, [{"role": "user", "content": f"What is {one.number} + 7?"}], (0,)))
        ids = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12)
        logits = model(ids).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
        expected = logits.gather(1, ids[0, len(prompt) :, None]).mean().item()
        assert one.mean_logprob == pytest.approx(expected, abs=1e-3)


def test_places_are_the_sequences_that_run_at_once(engine: Any) -> None:
    assert engine.places == 8
    assert engine.ahead == 16


def test_its_own_series_stand_beside_ours(engine: Any) -> None:
    from prometheus_client import REGISTRY, generate_latest

    ask(engine)
    names = generate_latest(REGISTRY).decode()
    assert "vllm:num_requests_running" in names
    assert "vllm:kv_cache_usage_perc" in names
    assert "overproof_sequences_running" in names


@pytest.mark.timeout(600)
def test_engine_that_dies_is_replaced_by_the_next_shard(checkpoint: Path) -> None:
    shelf, others = Shelf(), descendants(os.getpid())

    def lose() -> None:
        with shelf.lend("a", lambda: open_engine(checkpoint), lambda: None) as lent:
            for child in set(descendants(os.getpid())) - set(others):
                if b"EngineCore" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(child, signal.SIGKILL)
            ask(lent.engine, max_tokens=200)

    with pytest.raises(EngineUnavailable, match="vLLM died"):
        lose()
    with shelf.lend("a", lambda: open_engine(checkpoint), lambda: None) as lent:
        assert lent.load_seconds > 0
        assert len(ask(lent.engine)) == 3
    shelf.close()


def descendants(parent: int) -> list[int]:
    """Process ids of all that a process started."""
    children = [
        int(pid) for task in Path(f"/proc/{parent}/task").iterdir() for pid in (task / "children").read_text().split()
    ]
    return children + [pid for child in children for pid in descendants(child)]


def test_architecture_that_vllm_does_not_serve(broken: Path) -> None:
    config = json.loads((broken / "config.json").read_text())
    (broken / "config.json").write_text(json.dumps(config | {"architectures": ["FooForCausalLM"]}))
    with pytest.raises(ModelError, match="FooForCausalLM") as caught:
        open_engine(broken)
    assert "engine" in caught.value.remedy


def test_checkpoint_that_lacks_a_weight(broken: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(broken / "model.safetensors")
    weights.pop("model.layers.1.mlp.down_proj.weight")  # vLLM itself does not miss those of linear layers
    save_file(weights, broken / "model.safetensors", {"format": "pt"})
    with pytest.raises(ModelError, match=r"lacks 1 of \d+ weights: model\.layers\.1\.mlp\.down_proj") as caught:
        open_engine(broken)
    assert caught.value.remedy == "Restore the checkpoint's files."


@pytest.mark.parametrize(
    ("sizes", "most", "expected"),
    [
        ([1, 2, 4, 8, 512], 1_024, [1, 2, 4, 8, 512, 576, 640, 704, 768, 832, 896, 960, 1_024]),
        ([1, 512], 600, [1, 512, 576, 600]),
        ([1, 512], 530, [1, 512, 530]),
        ([1, 512], 512, None),
        ([1, 256], 128, None),
        ([], 1_024, None),
    ],
)
def test_graphs_go_on_up_to_the_sequences_at_once(sizes: list[int], most: int, expected: list[int] | None) -> None:
    from overproof.inference.adapters.vllm_options import wider

    assert wider(sizes, most) == expected


@pytest.mark.parametrize(("more", "speculation"), [({}, "none"), ({"speculative_config": NGRAM}, "ngram")])
def test_log_says_which_runner_draws_and_how_it_speculates(
    checkpoint: Path, more: dict[str, Any], speculation: str
) -> None:
    import vllm

    from overproof.inference.adapters.vllm_options import configuration, said_of

    config = configuration(checkpoint, EngineOptions(kind="vllm", dtype="float32", options=more))
    runner = "second" if getattr(config, "use_v2_model_runner", False) else "first"
    said = said_of(config)
    assert said.startswith(f"vLLM {vllm.__version__}, its {runner}")
    assert said.endswith(f"model runner, speculation: {speculation}")


def test_speculation_by_ngrams_writes_what_the_model_alone_writes(engine: Any, checkpoint: Path) -> None:
    alone = ask(engine, temperature=0.0, max_tokens=60)
    speculating = open_engine(checkpoint, speculative_config=NGRAM)
    try:
        found = ask(speculating, temperature=0.0, max_tokens=60)
    finally:
        speculating.close()
    assert [(one.text, one.n_tokens) for one in found] == [(one.text, one.n_tokens) for one in alone]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"tensor_parallel_size": 3}, "attention heads .* divisible by tensor parallel size"),
        ({"max_model_len": 4096}, "max_model_len"),
        ({"options": {"quantization": "awq"}}, "config file for awq"),
    ],
)
def test_what_does_not_go_with_the_checkpoint_is_refused_before_anything_loads(
    checkpoint: Path, how: dict[str, Any], said: str
) -> None:
    options = EngineOptions(kind="vllm", dtype="float32", gpu_memory_utilization=0.3)
    rehearse(checkpoint, options)
    with pytest.raises(ModelError, match=f"vLLM does not take tiny: .*{said}") as caught:
        rehearse(checkpoint, options.model_copy(update=how))
    assert "\n" not in caught.value.message
