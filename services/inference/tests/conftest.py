"""A tiny random Llama with a tokenizer and chat template of its own, and a worker with problems to sample."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from overproof.inference.settings import InferenceSettings
from overproof.shared.messages import ShardRequest
from overproof.shared.recipe import DataSource
from overproof.shared.records import Receipt
from overproof.shared.specs import PrepareSpec
from overproof.shared.tables import PROBLEMS, table_of
from overproof.shared.topology import Service, Stage
from overproof.shared.worker import Worker

TEMPLATE = (
    "{% for turn in messages %}<|im_start|>{{ turn['role'] }}\n{{ turn['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CONTEXT = 256
ENDS = list(range(2, 10))
"""Several, so that random weights end a completion now and then."""
FORBIDDEN = "this word breaks the template"


def save_tokenizer(folder: Path, template: str = TEMPLATE) -> None:
    """A byte-level BPE of 300 pieces, three of them special."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<|pad|>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=special,
        show_progress=False,
    )
    tokenizer.train_from_iterator((f"What is {a} + {a + 7}? Add them." for a in range(100)), trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|im_end|>")
    fast.chat_template = template
    fast.save_pretrained(folder)


def save_model(folder: Path, seed: int = 0) -> None:
    """Random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=320, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=CONTEXT, tie_word_embeddings=False,
        pad_token_id=0, bos_token_id=None, eos_token_id=ENDS, initializer_range=0.15,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)


@pytest.fixture(scope="session")
def model_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the checkpoint `tiny`."""
    root = tmp_path_factory.mktemp("models")
    save_tokenizer(
        root / "tiny",
        f"{{% if '{FORBIDDEN}' in messages[-1].content %}}{{{{ raise_exception('no') }}}}{{% endif %}}{TEMPLATE}",
    )
    save_model(root / "tiny")
    return root


@pytest.fixture(scope="session")
def checkpoint(model_root: Path) -> Path:
    return model_root / "tiny"


@pytest.fixture
def settings(tmp_path: Path, redis_url: str, model_root: Path) -> InferenceSettings:
    return InferenceSettings(storage=str(tmp_path / "storage"), redis_url=redis_url, model_root=model_root)


@pytest.fixture
def worker(settings: InferenceSettings) -> Worker:
    return Worker(Service.INFERENCE, settings)


@pytest.fixture
def problems(worker: Worker) -> Callable[..., str]:
    """Publishes tables of problems, one part per argument; returns the reference."""

    def publish(*parts: list[str]) -> str:
        spec = PrepareSpec(source=DataSource(file="problems.jsonl", n=len(parts)), rows_per_part=10)
        worker.artifacts.declare(spec)
        for shard, texts in enumerate(parts):
            rows = [_problem(shard, line, text) for line, text in enumerate(texts)]
            part = worker.artifacts.write_part(spec.ref, shard, PROBLEMS, [table_of(rows, PROBLEMS)])
            receipt = Receipt(shard=shard, parts=(part,), owner="t", started_at=0, finished_at=0)
            worker.artifacts.publish(spec.ref, receipt)
        worker.artifacts.close(spec.ref, len(parts), "problems")
        return spec.ref

    return publish


def _problem(shard: int, line: int, text: str) -> dict[str, object]:
    problem_id = f"{shard}-{line}"
    return {
        "problem_id": problem_id, "group_id": problem_id, "problem": text, "answer": "1", "alternatives": None,
        "solution": None, "level": 1, "type": "Sums", "source": f"sums:{line + 1}",
    }  # fmt: skip


@pytest.fixture
def request_of() -> Callable[[Stage, str, int], ShardRequest]:
    return lambda stage, key, shard: ShardRequest(stage=stage, key=key, shard=shard, run_id="r")
