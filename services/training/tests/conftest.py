"""A tiny student with random weights, rows to train it on, and workers beside a real Redis-protocol server."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from overproof.shared import gpu_memory
from overproof.shared.artifacts import Artifacts
from overproof.shared.messages import ShardRequest
from overproof.shared.recipe import DataSource, TrainingOptions
from overproof.shared.records import Receipt
from overproof.shared.specs import ModelRef, PrepareSpec, TrainSpec
from overproof.shared.tables import SELECTED, table_of
from overproof.shared.topology import Service, Stage
from overproof.shared.worker import Worker
from overproof.training import launcher
from overproof.training.job import Job
from overproof.training.prepare import prepare
from overproof.training.settings import TrainingSettings
from overproof.training.training import train
from overproof.training.verdicts import Asker

Rows = list[dict[str, object]]

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
VOCABULARY = 384
OPTIONS = TrainingOptions(
    epochs=2, learning_rate=3e-3, global_batch_size=8, micro_batch_size=8, max_length=128, dtype="float32", save_every_steps=5, seed=5,
)  # fmt: skip


def _make_student(folder: Path) -> Path:
    """A Llama of 60k random weights with a byte-level tokenizer and a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator(["What is 1 + 2? So the answer is \\boxed{3}."] * 9, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
        max_position_embeddings=256, tie_word_embeddings=True, eos_token_id=2, bos_token_id=None, pad_token_id=0,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model root with the student `tiny` in it."""
    root = tmp_path_factory.mktemp("models")
    _make_student(root / "tiny")
    return root


def _rows(n_train: int = 40, n_val: int = 8) -> Rows:
    """Sums with worked solutions of different lengths."""
    return [
        {
            "problem_id": f"{i:032x}", "group_id": f"{i:032x}", "sample": 0, "prompt": f"What is {i} + {i % 7}?", "system": None,
            "completion": f"{'We add. ' * (i % 4)}{i} + {i % 7} = {i + i % 7}. So the answer is \\boxed{{{i + i % 7}}}.",
            "n_tokens": 10, "level": 1, "type": "Algebra", "split": "train" if i < n_train else "val", "policy": "shortest",
        }
        for i in range(n_train + n_val)
    ]  # fmt: skip


@pytest.fixture
def rows() -> Callable[..., Rows]:
    """`rows(n_train, n_val)`: selected rows."""
    return _rows


def _select(artifacts: Artifacts, rows: Rows) -> str:
    """A complete table of selected rows, in two parts; returns its reference."""
    source = DataSource(file=f"{hash(json.dumps(rows))}.parquet")
    spec = PrepareSpec(table="selected", source=source, rows_per_part=1000)
    artifacts.declare(spec)
    half = (len(rows) + 1) // 2
    parts = [
        artifacts.write_part(spec.ref, 0, SELECTED, [table_of(piece, SELECTED)], suffix=f"-{i:04d}")
        for i, piece in enumerate((rows[:half], rows[half:]))
    ]
    artifacts.publish(spec.ref, Receipt(shard=0, parts=tuple(parts), owner="test", started_at=0, finished_at=0))
    artifacts.close(spec.ref, 1, "selected")
    return spec.ref


@pytest.fixture
def select() -> Callable[[Artifacts, Rows], str]:
    """`select(artifacts, rows)`: publish the rows, get their reference."""
    return _select


def _train_spec(selected: str, student: str = "tiny", **options: object) -> TrainSpec:
    return TrainSpec(
        selected=selected,
        student=ModelRef(name=student, kind="folder", location=student, license="apache-2.0"),
        options=OPTIONS.model_copy(update=options),
        policy="shortest",
        round=1,
        teacher="big",
        licenses=(("the model big", "apache-2.0"),),
    )


@pytest.fixture
def train_spec() -> Callable[..., TrainSpec]:
    """`train_spec(selected, student, **options)`."""
    return _train_spec


@pytest.fixture
def settings(models: Path, storage: Path, redis_url: str) -> TrainingSettings:
    """A short lease, one thread: results do not depend on how busy the machine is."""
    return TrainingSettings(
        storage=str(storage), redis_url=redis_url, model_root=models, lease_seconds=2.0, training_threads=1
    )


def _skip_without_gpus(processes: int) -> None:
    """Where there are GPUs, but not one for each process; without any, all are on the CPU."""
    if 0 < len(gpu_memory.visible(os.environ.get("CUDA_VISIBLE_DEVICES"))) < processes:
        pytest.skip(f"needs {processes} GPUs, or none")


def _deliver(spec: TrainSpec, settings: TrainingSettings) -> Worker:
    _skip_without_gpus(settings.training_processes or spec.options.processes)
    worker = Worker(Service.TRAINING, settings)
    worker.artifacts.declare(spec)
    request = ShardRequest(stage=Stage.TRAIN, key=spec.key, shard=0, run_id="r1")
    asker = Asker(worker.artifacts, worker.leases, worker.app)
    worker.make_shard(request, TrainSpec, lambda work: train(work, settings, asker))
    return worker


@pytest.fixture
def deliver() -> Callable[[TrainSpec, TrainingSettings], Worker]:
    """`deliver(spec, settings)`: what a worker does with one message; returns when the shard's life is over."""
    return _deliver


@pytest.fixture
def make_job(models: Path, tmp_path: Path, artifacts: Artifacts) -> Callable[..., Job]:
    """`make_job(rows, **options)`: a training of its own folder, prepared; `run_job` runs its process group."""

    def make(rows: Rows, **options: object) -> Job:
        spec = _train_spec(_select(artifacts, rows), **options)
        job = Job(
            scratch=tmp_path / f"job-{spec.key}", storage=artifacts.files.root, selected=spec.selected, student=models / "tiny",
            context=256, vocab_size=VOCABULARY, n_parameters=60_000, options=spec.options, threads=1,
        )  # fmt: skip
        job.scratch.mkdir()
        job.save()
        prepare(job)
        return job

    return make


def _run_job(job: Job, checkpoint: Path | None = None) -> Job:
    _skip_without_gpus(job.options.processes)
    arguments = [str(job.scratch / "job.json"), *([str(checkpoint)] if checkpoint else [])]
    command = launcher.torchrun(job.options.processes, "overproof.training.fit", *arguments)
    group = subprocess.run(command, env=launcher.environment(1), capture_output=True, text=True, timeout=240)
    assert group.returncode == 0, group.stderr[-5000:]
    return job


@pytest.fixture
def run_job() -> Callable[..., Job]:
    """`run_job(job, checkpoint)`: what the worker starts, without the worker; returns the job when its group has ended."""
    return _run_job
