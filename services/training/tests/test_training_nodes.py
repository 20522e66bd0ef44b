"""Several nodes, each a process group of its own on this machine, that share a folder; and trainings that go on with other numbers of processes."""

from __future__ import annotations

import hashlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from pydantic import ValidationError

from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import RecipeError, UserError
from overproof.shared.recipe import LoraOptions, TrainingOptions
from overproof.shared.specs import TrainSpec
from overproof.shared.worker import Worker
from overproof.training import launcher, node, training
from overproof.training.checkpointing import MARKER, mark_complete
from overproof.training.failures import explain, final
from overproof.training.job import Job
from overproof.training.node import rendezvous
from overproof.training.resume import MADE_BY
from overproof.training.settings import TrainingSettings
from overproof.training.setup import check_devices, sentence

Deliver = Callable[[TrainSpec, TrainingSettings], Worker]
Rows = list[dict[str, Any]]
LONG = {"max_steps": 40, "save_every_steps": 5}


def wait_until(holds: Callable[[], bool], what: str, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"{what} never came"
        time.sleep(0.02)


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(
        scratch=tmp_path, storage="s", selected="select/x", student=tmp_path, context=None, vocab_size=None, n_parameters=1, threads=1,
        options=TrainingOptions(processes=4),
    )  # fmt: skip


TRAINJOB = {
    "PET_NNODES": "2",
    "PET_NODE_RANK": "1",
    "PET_NPROC_PER_NODE": "2",
    "PET_MASTER_ADDR": "a",
    "PET_MASTER_PORT": "29400",
}
PYTORCHJOB = {"WORLD_SIZE": "2", "RANK": "1", "MASTER_ADDR": "a", "MASTER_PORT": "29400"}


@pytest.mark.parametrize(
    "environ",
    [TRAINJOB, PYTORCHJOB, TRAINJOB | {"PET_NPROC_PER_NODE": "auto"}, TRAINJOB | {"RANK": "3", "WORLD_SIZE": "4"}],
)
def test_nodes_find_each_other_by_either_of_kubeflows_environments(job: Job, environ: dict[str, str]) -> None:
    assert rendezvous(job, environ) == TRAINJOB


def test_one_node_needs_no_environment(job: Job) -> None:
    assert rendezvous(job, {})["PET_NPROC_PER_NODE"] == "4"


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"PET_NNODES": "3", "PET_MASTER_ADDR": "a"}, "do not go into 3 nodes of equal processes"),
        (TRAINJOB | {"PET_NPROC_PER_NODE": "8"}, "4 do not go into 2 nodes of 8 processes"),
        ({"PET_NNODES": "2"}, "MASTER_ADDR"),
        (TRAINJOB | {"PET_NNODES": "1:4"}, "PET_NNODES is '1:4': a training has a fixed number of nodes"),
    ],
)
def test_nodes_that_do_not_fit_are_refused(job: Job, environ: dict[str, str], told: str) -> None:
    with pytest.raises(UserError, match=told):
        rendezvous(job, environ)


def test_gpus_of_the_machine_are_chosen_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    show = [sys.executable, "-c", "import os; print(os.environ.get('CUDA_VISIBLE_DEVICES'))"]

    def seen() -> str:
        launcher.run(show, tmp_path, tmp_path / "log", 1, Event(), lambda: False, 60)
        return (tmp_path / "log").read_text().split()[-1]

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,3")
    assert seen() == "1,3"
    monkeypatch.setenv("OVERPROOF_TRAINING_GPUS", "3")
    assert seen() == "3"
    check_devices(2, 2, needed=True)
    check_devices(2, 0, needed=False)
    for visible in (1, 0):
        with pytest.raises(UserError, match=f"wants 2 GPUs of this machine, and {visible} are visible"):
            check_devices(2, visible, needed=True)


def test_node_without_the_gpus_it_was_asked_for_trains_nothing(
    make_job: Callable[..., Job], rows: Callable[..., Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    job = make_job(rows()).model_copy(update={"needs_gpus": True})
    alone = {"PET_NNODES": "1", "PET_NPROC_PER_NODE": "1"}
    command = [sys.executable, "-m", "overproof.training.node", str(job.save())]
    done = subprocess.run(command, env=os.environ | alone, capture_output=True, timeout=120, check=False)
    assert done.returncode
    said = final(job.scratch)
    assert isinstance(said, UserError)
    assert "Training wants 1 GPU of this machine, and 0 are visible to it." in said.message
    assert not job.setup.exists()


def test_process_group_of_a_pod_that_is_a_node_waits_for_no_other(
    make_job: Callable[..., Job],
    rows: Callable[..., Rows],
    run_job: Callable[..., Job],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in TRAINJOB.items():
        monkeypatch.setenv(name, value)
    assert run_job(make_job(rows(), max_steps=1)).result.is_file()


def test_reason_of_a_node_is_not_written_over(
    make_job: Callable[..., Job], rows: Callable[..., Rows], monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(rows(), zero_stage=3)
    checkpoint = job.checkpoints / "checkpoint-5"
    checkpoint.mkdir(parents=True)
    (checkpoint / MADE_BY).write_text('{"processes": 2}')
    mark_complete(checkpoint)
    monkeypatch.setattr(sys, "argv", ["node", str(job.save())])
    with pytest.raises(SystemExit):
        node.main()
    assert "was made by 2 processes and cannot be cut for 1: under ZeRO 3" in str(final(job.scratch))


def test_what_a_training_runs_on_is_one_sentence() -> None:
    setup = {
        "processes": 4, "nodes": 2, "device": "NVIDIA H100", "gpus": "0,1", "zero_stage": 2, "dtype": "bfloat16",
        "attention": "FlashAttention", "loss": "in chunks", "fused_layers": True,
        "exchange": "behind arithmetic",
    }  # fmt: skip
    assert sentence(setup) == (
        "4 processes on 2 nodes (NVIDIA H100: GPUs 0,1), ZeRO 2, bfloat16; attention: FlashAttention; loss: in chunks; fused layers: True; "
        "exchange: behind arithmetic"
    )
    alone = setup | {"processes": 1, "nodes": 1, "gpus": "3", "visible_gpus": 4}
    assert sentence(alone).startswith("1 process on 1 node (NVIDIA H100: GPU 3 of 4 visible), ZeRO 2")
    assert "(NVIDIA H100: GPUs 0,1)," in sentence(setup | {"visible_gpus": 2})


@pytest.mark.parametrize(
    ("shell", "local", "world", "used"),
    [
        (None, 1, 1, "0"), (None, 4, 4, "0,1,2,3"), ("2,3,5,7", 2, 2, "2,3"), ("GPU-aa,GPU-bb,1,2", 1, 1, "GPU-aa"), ("", 2, 8, "0,1"),
    ],
)  # fmt: skip
def test_only_the_gpus_that_are_used_are_said(
    monkeypatch: pytest.MonkeyPatch, shell: str | None, local: int, world: int, used: str
) -> None:
    import torch

    from overproof.training import fit

    for name, value in {"CUDA_VISIBLE_DEVICES": shell, "LOCAL_WORLD_SIZE": local, "WORLD_SIZE": world}.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100")
    setup = fit._setup(SimpleNamespace(options=TrainingOptions()))  # type: ignore[arg-type]
    assert (setup["gpus"], setup["visible_gpus"]) == (used, 4)
    assert (setup["processes"], setup["nodes"]) == (world, world // local)


def test_processes_of_the_machine_must_suit_the_recipe(
    settings: TrainingSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = TrainingOptions(global_batch_size=8, processes=2)
    assert settings.on_this_machine(options) is options
    assert settings.model_copy(update={"training_processes": 4}).on_this_machine(options).processes == 4
    monkeypatch.setenv("OVERPROOF_TRAINING_PROCESSES", "")
    assert TrainingSettings().on_this_machine(options) is options
    monkeypatch.setenv("OVERPROOF_TRAINING_PROCESSES", "0")
    with pytest.raises(ValidationError, match="training_processes"):
        TrainingSettings()
    with pytest.raises(RecipeError, match="OVERPROOF_TRAINING_PROCESSES 3 does not suit"):
        settings.model_copy(update={"training_processes": 3}).on_this_machine(options)


# --- whole trainings --------------------------------------------------------------------------------------------------


class Nodes:
    """A `Runner`: as many process groups as there are nodes, told of each other by the environment alone."""

    def __init__(self, kill_at: Path | None = None) -> None:
        self.kill_at = kill_at
        self.ended: list[int | None] = []
        self.ranks: list[psutil.Process] = []

    def run(self, ref: str, job: Job, stop: Event, look: Callable[[], bool]) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        told = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        command = [sys.executable, "-m", "overproof.training.node", str(job.scratch / "job.json")]
        with job.log.open("ab") as log:
            nodes = [
                subprocess.Popen(
                    command, env=os.environ | told | {"RANK": str(rank)}, stdout=log, stderr=log, start_new_session=True
                )
                for rank in (0, 1)
            ]
        if self.kill_at:
            wait_until(self.kill_at.is_file, "the checkpoint")
            self.ranks = [one for node in nodes for one in psutil.Process(node.pid).children(recursive=True)]
            nodes[1].kill()
        self.ended = [node.wait(120) for node in nodes]
        look()
        if any(self.ended):
            raise explain(job.scratch, 1, "")


def folder(artifacts: Artifacts, spec: TrainSpec) -> Path:
    return artifacts.files.local(artifacts.folder(spec.ref))


def outcome(artifacts: Artifacts, spec: TrainSpec) -> tuple[list[float], str]:
    """Losses by step, and the SHA-256 of the weights."""
    lines = [json.loads(line) for line in (folder(artifacts, spec) / "metrics.jsonl").read_text().splitlines()]
    weights = (folder(artifacts, spec) / "checkpoint" / "model.safetensors").read_bytes()
    return [line["loss"] for line in lines if "loss" in line], hashlib.sha256(weights).hexdigest()


def resumed_at(artifacts: Artifacts, spec: TrainSpec) -> int:
    return int(artifacts.receipt(spec.ref, 0).notes["resumed_at_step"])


@pytest.fixture
def make(
    artifacts: Artifacts,
    select: Callable[[Artifacts, Rows], str],
    rows: Callable[..., Rows],
    train_spec: Callable[..., TrainSpec],
) -> Callable[..., TrainSpec]:
    """`make(**options)`: the spec of a training long enough to be disturbed."""
    return lambda **options: train_spec(select(artifacts, rows()), **{**LONG, **options})


@pytest.fixture
def elsewhere(
    settings: TrainingSettings, tmp_path: Path, select: Callable[..., str], rows: Callable[..., Rows]
) -> TrainingSettings:
    """Settings of an installation with a storage of its own, for the undisturbed twin."""
    twin = settings.model_copy(update={"storage": str(tmp_path / "twin")})
    select(Worker("training", twin).artifacts, rows())  # type: ignore[arg-type]
    return twin


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_killed_node_takes_the_others_along_and_the_next_attempt_ends_alike(
    make: Callable[..., TrainSpec],
    deliver: Deliver,
    settings: TrainingSettings,
    elsewhere: TrainingSettings,
    artifacts: Artifacts,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = make(processes=2, zero_stage=2)
    nodes = Nodes(kill_at=folder(artifacts, spec) / "work" / "checkpoints" / "checkpoint-10" / MARKER)
    monkeypatch.setattr(training, "runner_of", lambda _: nodes)
    worker = deliver(spec, settings)
    assert not artifacts.is_published(spec.ref, 0)
    assert nodes.ended[0], "the first node went on alone"
    assert len(nodes.ranks) >= 2
    wait_until(
        lambda: not any(rank.is_running() and rank.status() != psutil.STATUS_ZOMBIE for rank in nodes.ranks),
        "the end",
        20,
    )
    assert worker.leases.attempts(spec.ref, 0) == 1
    nodes.kill_at = None
    deliver(spec, settings)
    assert resumed_at(artifacts, spec) >= 10
    monkeypatch.undo()
    twin = deliver(spec, elsewhere).artifacts
    assert outcome(artifacts, spec) == outcome(twin, spec)
    assert resumed_at(twin, spec) == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("before", "after", "options"),
    [
        (1, 2, {"zero_stage": 1}),
        (2, 1, {"zero_stage": 2}),
        (2, 1, {"zero_stage": 0}),
        (2, 1, {"zero_stage": 2, "dtype": "bfloat16", "lora": LoraOptions(rank=4), "micro_batch_tokens": 256}),
    ],
    ids=["zero 1", "zero 2", "zero 0", "adapter"],
)
def test_training_goes_on_with_another_number_of_processes(
    before: int,
    after: int,
    options: dict[str, Any],
    make: Callable[..., TrainSpec],
    deliver: Deliver,
    settings: TrainingSettings,
    elsewhere: TrainingSettings,
    artifacts: Artifacts,
) -> None:
    spec = make(processes=before, micro_batch_size=4, **options)
    killed_at(10, spec, deliver, settings)
    worker = deliver(spec, settings.model_copy(update={"training_processes": after}))
    assert artifacts.is_published(spec.ref, 0), worker.leases.last_error(spec.ref, 0)
    assert resumed_at(artifacts, spec) >= 10
    twin = deliver(spec, elsewhere).artifacts
    report = json.loads((folder(artifacts, spec) / "preflight.json").read_text())
    assert report["batch"]["processes"] == after
    rounding = 1e-4 if options.get("dtype") != "bfloat16" else 1e-2
    assert outcome(artifacts, spec)[0] == pytest.approx(outcome(twin, spec)[0], rel=rounding)


@pytest.mark.slow
def test_zero_3_with_another_number_of_processes_says_what_to_do(
    make: Callable[..., TrainSpec], deliver: Deliver, settings: TrainingSettings, artifacts: Artifacts
) -> None:
    spec = make(processes=2, micro_batch_size=4, zero_stage=3)
    killed_at(5, spec, deliver, settings)
    deliver(spec, settings.model_copy(update={"training_processes": 1}))
    failure = artifacts.failure(spec.ref, 0)
    assert "was made by 2 processes and cannot be cut for 1: under ZeRO 3" in failure.message
    assert "Train with 2 (OVERPROOF_TRAINING_PROCESSES), or delete" in failure.remedy
    assert (folder(artifacts, spec) / "work" / "checkpoints" / "checkpoint-5" / MARKER).is_file()


def killed_at(step: int, spec: TrainSpec, deliver: Deliver, settings: TrainingSettings) -> None:
    """Deliver the training, and kill its processes once the checkpoint of `step` is there."""
    marker = Path(settings.storage) / "artifacts" / spec.ref / "work" / "checkpoints" / f"checkpoint-{step}" / MARKER

    def kill() -> None:
        wait_until(marker.is_file, "the checkpoint")
        next(
            one for one in psutil.Process().children(recursive=True) if "overproof.training.fit" in one.cmdline()[-3:]
        ).kill()

    killer = threading.Thread(target=kill)
    killer.start()
    worker = deliver(spec, settings)
    killer.join()
    assert not worker.artifacts.is_published(spec.ref, 0)
