"""Whole trainings through the worker: real DeepSpeed, real processes, a real Redis-protocol server."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from overproof.shared import checkpoints, gpu_memory
from overproof.shared.artifacts import Artifacts
from overproof.shared.files import Files
from overproof.shared.recipe import ProbeOptions
from overproof.shared.specs import ModelRef, TrainSpec
from overproof.shared.topology import TaskName
from overproof.shared.worker import Worker
from overproof.training.checkpointing import MARKER
from overproof.training.settings import TrainingSettings

Deliver = Callable[[TrainSpec, TrainingSettings], Worker]
Rows = list[dict[str, Any]]
FILES = {
    "checkpoint/README.md", "checkpoint/chat_template.jinja", "checkpoint/config.json", "checkpoint/generation_config.json",
    "checkpoint/model.safetensors", "checkpoint/tokenizer.json", "checkpoint/tokenizer_config.json", "checkpoint/training.json",
    "metrics.jsonl", "preflight.json", "rendered_samples.json",
}  # fmt: skip
LONG = {"max_steps": 60, "save_every_steps": 5}
"""Long enough to be killed in the middle."""
PROBE = ProbeOptions(every_steps=7, problems=3, max_tokens=8)
PACKED = {"micro_batch_tokens": 256, "global_batch_tokens": 400, "max_length": 128, "probe": PROBE}
"""Rows end to end, a step counted in tokens: several passes, and another number of rows each step; and a probe now and then."""


TWO = {"processes": 2, "zero_stage": 2, "micro_batch_size": 4}
EIGHT = {"optimizer": "adamw_8bit"}


class Outcome(NamedTuple):
    """What two equal trainings must share, bit by bit."""

    curve: list[tuple[int, float, float | None]]
    """(step, loss, gradient norm)."""
    weights_sha256: str


@pytest.fixture
def make_spec(
    artifacts: Artifacts, select: Callable[[Artifacts, Rows], str], train_spec: Callable[..., TrainSpec]
) -> Callable[..., TrainSpec]:
    """`make_spec(rows, **options)`: publish the rows, get the spec of a training on them."""
    return lambda rows, **options: train_spec(select(artifacts, rows), **options)


@pytest.fixture(scope="module")
def undisturbed(models: Path, redis_server: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Outcome]:
    """Outcomes by key, filled by the first test that asks."""
    return {}


def folder(artifacts: Artifacts, spec: TrainSpec) -> Path:
    return artifacts.files.local(artifacts.folder(spec.ref))


def outcome(artifacts: Artifacts, spec: TrainSpec) -> Outcome:
    lines = [json.loads(line) for line in (folder(artifacts, spec) / "metrics.jsonl").read_text().splitlines()]
    parts = {part.name: part.sha256 for part in artifacts.receipt(spec.ref, 0).parts}
    steps = [(line["step"], line["loss"], line.get("grad_norm")) for line in lines if "loss" in line]
    return Outcome(steps, parts["checkpoint/model.safetensors"])


def assert_same(found: Outcome, expected: Outcome) -> None:
    """Bit by bit on a CPU. A GPU adds up in another order each time: there it is the same curve."""
    if not gpu_memory.visible(os.environ.get("CUDA_VISIBLE_DEVICES")):
        assert found == expected
    assert [step for step, *_ in found.curve] == [step for step, *_ in expected.curve]
    assert [loss for _, loss, _ in found.curve] == pytest.approx([loss for _, loss, _ in expected.curve], rel=1e-3)


def notes(artifacts: Artifacts, spec: TrainSpec) -> dict[str, Any]:
    return artifacts.receipt(spec.ref, 0).notes


def ranks() -> dict[int, psutil.Process]:
    """The processes of the group, by their number."""
    found = {}
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has just ended
            if "overproof.training.fit" in child.cmdline() and (rank := child.environ().get("RANK")):
                found[int(rank)] = child
    return found


def alive(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.02)


def marker(artifacts: Artifacts, spec: TrainSpec, step: int) -> Path:
    return folder(artifacts, spec) / "work" / "checkpoints" / f"checkpoint-{step}" / MARKER


def test_training_makes_an_ordinary_checkpoint(
    deliver: Deliver,
    settings: TrainingSettings,
    rows: Callable[..., Rows],
    make_spec: Callable[..., TrainSpec],
    artifacts: Artifacts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path / "extensions"))
    spec = make_spec(rows(), epochs=4)
    deliver(spec, settings)
    names = {part.name for part in artifacts.receipt(spec.ref, 0).parts}
    (events,) = {name for name in names if name.startswith("tensorboard/events.out.tfevents.")}
    assert names - {events} == FILES
    told = notes(artifacts, spec)
    assert told["tokens_per_second"] > 0
    assert 1 < told["estimated_device_gib"] < 2
    curve = outcome(artifacts, spec).curve
    assert [step for step, _, _ in curve] == list(range(1, 21))
    assert curve[-1][1] < curve[0][1] - 1.0
    assert not (folder(artifacts, spec) / "work").exists()
    assert not (tmp_path / "extensions").exists(), "DeepSpeed compiled something"

    artifacts.close(spec.ref, 1, None)
    path = checkpoints.resolve(ModelRef(name="s", kind="artifact", location=spec.ref), settings, artifacts)
    assert checkpoints.inspect(path).dtype == "float32"
    assert 'base_model: "tiny"\nlicense: "apache-2.0"' in (path / "README.md").read_text()
    has_the_loss_that_training_reported(path, rows(), notes(artifacts, spec)["val_loss"])


def has_the_loss_that_training_reported(path: Path, rows: Rows, val_loss: float) -> None:
    """Loaded afresh, one row at a time."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer, model = AutoTokenizer.from_pretrained(path), AutoModelForCausalLM.from_pretrained(path)
    total, n_tokens = 0.0, 0
    for row in (one for one in rows if one["split"] == "val"):
        turn = [{"role": "user", "content": row["prompt"]}]
        prompt = tokenizer.apply_chat_template(turn, add_generation_prompt=True)["input_ids"]
        completion = tokenizer(row["completion"] + "<|im_end|>", add_special_tokens=False)["input_ids"]
        labels = torch.tensor([[-100] * len(prompt) + completion])
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([prompt + completion]), labels=labels).loss
        total, n_tokens = total + float(loss) * len(completion), n_tokens + len(completion)
    assert math.isclose(total / n_tokens, val_loss, rel_tol=1e-4)


@pytest.fixture
def long(
    request: pytest.FixtureRequest,
    rows: Callable[..., Rows],
    make_spec: Callable[..., TrainSpec],
    select: Callable[[Artifacts, Rows], str],
    settings: TrainingSettings,
    deliver: Deliver,
    undisturbed: dict[str, Outcome],
    tmp_path: Path,
) -> TrainSpec:
    """A training to disturb (with the parameter's options); its undisturbed twin runs once, in a storage of its own."""
    spec = make_spec(rows(), **LONG, **getattr(request, "param", {}))
    if spec.key not in undisturbed:
        twin = settings.model_copy(update={"storage": str(tmp_path / "twin")})
        select(Artifacts(Files(twin.storage)), rows())
        undisturbed[spec.key] = outcome(deliver(spec, twin).artifacts, spec)
    return spec


@pytest.mark.slow
@pytest.mark.parametrize(
    "long", [{}, PACKED, TWO, EIGHT], ids=["padded", "packed", "second of two", "eight bits"], indirect=True
)
def test_rank_killed_in_the_middle_resumes_to_the_same_weights(
    long: TrainSpec, deliver: Deliver, settings: TrainingSettings, artifacts: Artifacts, undisturbed: dict[str, Outcome]
) -> None:
    def kill_rank() -> None:
        wait_until(marker(artifacts, long, 20).is_file, "checkpoint 20")
        ranks()[long.options.processes - 1].kill()

    killer = threading.Thread(target=kill_rank)
    killer.start()
    worker = deliver(long, settings)
    killer.join()
    assert not artifacts.is_published(long.ref, 0)
    assert "killed" in str(worker.leases.last_error(long.ref, 0))
    deliver(long, settings)
    assert notes(artifacts, long)["resumed_at_step"] >= 15
    assert_same(outcome(artifacts, long), undisturbed[long.key])


@pytest.mark.slow
def test_worker_killed_in_the_middle_takes_its_ranks_along_and_another_goes_on(
    long: TrainSpec, deliver: Deliver, settings: TrainingSettings, artifacts: Artifacts, undisturbed: dict[str, Outcome]
) -> None:
    artifacts.declare(long)
    names = ("storage", "redis_url", "model_root", "lease_seconds", "training_threads")
    environment = {f"OVERPROOF_{name.upper()}": str(getattr(settings, name)) for name in names}
    victim = subprocess.Popen([sys.executable, "-m", "overproof.training"], env=os.environ | environment)
    worker = Worker("training", settings)  # type: ignore[arg-type]
    worker.app.send_task(
        TaskName.TRAIN, kwargs={"stage": "train", "key": long.key, "shard": 0, "run_id": "r1"}, queue="training"
    )
    wait_until(marker(artifacts, long, 20).is_file, "checkpoint 20")
    descendants = psutil.Process(victim.pid).children(recursive=True)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    assert len(descendants) >= 2
    wait_until(lambda: not any(alive(child) for child in descendants), "the end of the ranks", 10)
    wait_until(lambda: not worker.leases.look("training", long.ref, [0])[0].leased, "the end of the lease", 10)
    deliver(long, settings)
    assert notes(artifacts, long)["resumed_at_step"] >= 15
    assert_same(outcome(artifacts, long), undisturbed[long.key])


@pytest.mark.slow
def test_cancel_ends_the_group_and_publishes_nothing(
    long: TrainSpec, deliver: Deliver, settings: TrainingSettings, artifacts: Artifacts, redis_url: str
) -> None:
    seen: list[psutil.Process] = []

    def cancel() -> None:
        wait_until(marker(artifacts, long, 5).is_file, "checkpoint 5")
        seen.extend(ranks().values())
        Worker("training", settings).leases.halt(long.ref)  # type: ignore[arg-type]

    canceller = threading.Thread(target=cancel)
    canceller.start()
    worker = deliver(long, settings)
    canceller.join()
    assert seen
    wait_until(lambda: not any(alive(rank) for rank in seen), "the end of the ranks", 10)
    assert not artifacts.is_published(long.ref, 0)
    assert not artifacts.listing(long.ref).failed
    assert not (folder(artifacts, long) / "checkpoint").exists()
    assert worker.leases.attempts(long.ref, 0) == 0


def weights(artifacts: Artifacts, spec: TrainSpec) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(folder(artifacts, spec) / "checkpoint" / "model.safetensors"))


@pytest.mark.slow
def test_two_processes_train_alike(
    deliver: Deliver,
    settings: TrainingSettings,
    rows: Callable[..., Rows],
    make_spec: Callable[..., TrainSpec],
    artifacts: Artifacts,
) -> None:
    some = rows(44, 7)
    one = make_spec(some, processes=1, zero_stage=0, micro_batch_size=8, max_steps=8)
    deliver(one, settings)
    expected = [loss for _, loss, _ in outcome(artifacts, one).curve]
    for stage, micro in ((2, 2), (3, 4)):
        two = make_spec(some, processes=2, zero_stage=stage, micro_batch_size=micro, max_steps=8)
        deliver(two, settings)
        assert [loss for _, loss, _ in outcome(artifacts, two).curve] == pytest.approx(expected, rel=1e-4)
        assert notes(artifacts, two)["val_loss"] == pytest.approx(notes(artifacts, one)["val_loss"], rel=1e-4)
        for name, tensor in weights(artifacts, one).items():
            assert weights(artifacts, two)[name] == pytest.approx(tensor, abs=1e-4), name


@pytest.mark.slow
def test_patience_stops_early_and_the_best_weights_are_the_student(
    deliver: Deliver,
    settings: TrainingSettings,
    rows: Callable[..., Rows],
    make_spec: Callable[..., TrainSpec],
    artifacts: Artifacts,
) -> None:
    # eight rows are learnt by heart within a few epochs, and the others get worse
    spec = make_spec(rows(8, 8), learning_rate=3e-2, epochs=200, patience=2, save_every_steps=1000)
    deliver(spec, settings)
    found = notes(artifacts, spec)
    training = json.loads((folder(artifacts, spec) / "checkpoint" / "training.json").read_text())
    validations = training["result"]["validations"]
    assert found["stopped_early"]
    assert found["steps"] < 200
    assert [found["step"], found["val_loss"]] == min(validations, key=lambda one: one[1])
    assert found["step"] == validations[-3][0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])  # DeepSpeed tells of it in different ways
def test_loss_that_is_no_number_is_the_users_to_mend(
    dtype: str,
    deliver: Deliver,
    settings: TrainingSettings,
    rows: Callable[..., Rows],
    make_spec: Callable[..., TrainSpec],
    artifacts: Artifacts,
) -> None:
    spec = make_spec(rows(), learning_rate=1.0, max_grad_norm=1e30, weight_decay=1e20, max_steps=8, dtype=dtype)
    deliver(spec, settings)
    failure = artifacts.failure(spec.ref, 0)
    assert failure.kind == "UserError"
    assert "diverged" in failure.message
    assert "training.learning_rate" in failure.remedy
