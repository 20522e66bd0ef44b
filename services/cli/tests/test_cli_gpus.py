"""Which GPUs the workers of a local installation see, with a script in place of nvidia-smi."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from overproof.cli.commands import doctor
from overproof.cli.errors import CliError
from overproof.cli.local import gpus, services
from overproof.cli.local.redis_server import RedisServer
from overproof.cli.local.state import StateFolder


def nvidia_smi(folder, script):
    folder.mkdir(exist_ok=True)
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """`machine(n)`: this machine has n GPUs, as nvidia-smi tells; None: it tells nothing."""
    for name in ("CUDA_VISIBLE_DEVICES", "OVERPROOF_CONCURRENCY", gpus.SETTING, "OVERPROOF_TRAINING_GPUS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("OVERPROOF_TRAINING_PROCESSES", raising=False)
    monkeypatch.setattr(services, "missing", list)

    def has(n):
        lines = "".join(f"echo '{number}, GPU-{number}{number}-aa'\n" for number in range(n or 0))
        nvidia_smi(tmp_path / "bin", lines or "exit 9")
        monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    return has


def environments(tmp_path):
    found = services.programs(StateFolder(tmp_path), RedisServer("redis://x"), 8123, {})
    return {program.name: program.env for program in found}


@pytest.mark.parametrize("n", [1, None], ids=["one", "how many is not told"])
def test_a_gpu_gets_one_worker_that_sees_what_the_shell_sees(tmp_path, machine, n):
    machine(n)
    found = environments(tmp_path)
    assert found["inference"]["OVERPROOF_CONCURRENCY"] == "8"
    assert found["inference"]["OVERPROOF_PRELOAD"] == "vllm"
    assert not [name for name, env in found.items() if "CUDA_VISIBLE_DEVICES" in env]


@pytest.mark.parametrize(
    ("n", "environ", "workers"),
    [
        (4, {}, ["0", "1", "2", "3"]),
        (4, {"CUDA_VISIBLE_DEVICES": "3,1"}, ["3", "1"]),
        (4, {"CUDA_VISIBLE_DEVICES": "GPU-11, GPU-22-aa"}, ["GPU-11", "GPU-22-aa"]),
        (4, {"CUDA_VISIBLE_DEVICES": "2,3,-1,0"}, ["2", "3"]),
        (1, {"CUDA_VISIBLE_DEVICES": "MIG-a,MIG-b"}, ["MIG-a", "MIG-b"]),
        (2, {gpus.SETTING: "0;1"}, ["0", "1"]),
        (4, {gpus.SETTING: " 0, 1 ; 2,3 "}, ["0,1", "2,3"]),
        (4, {gpus.SETTING: "0,1"}, ["0,1"]),
        (4, {gpus.SETTING: "3"}, ["3"]),
        (4, {gpus.SETTING: "2;GPU-33", "CUDA_VISIBLE_DEVICES": "GPU-22,3"}, ["2", "GPU-33"]),
        (None, {gpus.SETTING: "0;1"}, ["0", "1"]),
    ],
)
def test_each_worker_sees_the_gpus_of_its_own_and_training_sees_all(
    tmp_path, machine, monkeypatch, n, environ, workers
):
    machine(n)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    found = environments(tmp_path)
    names = [name for name in found if name.startswith("inference")]
    assert [found[name]["CUDA_VISIBLE_DEVICES"] for name in names] == workers
    assert names == (["inference"] if len(workers) == 1 else [f"inference-{i + 1}" for i in range(len(workers))])
    assert "CUDA_VISIBLE_DEVICES" not in found["training"]
    assert found["training"]["OVERPROOF_CONCURRENCY"] == "1"
    ports = [env["OVERPROOF_METRICS_PORT"] for env in found.values()]
    assert len(set(ports)) == len(ports)


@pytest.mark.parametrize(
    ("value", "environ", "told"),
    [
        ("0;;1", {}, 'is "0;;1": a name in it is empty'),
        ("0,", {}, "a name in it is empty"),
        ("0;0", {}, "it names GPU 0 twice"),
        ("1;GPU-11-aa", {}, "it names GPU 1 twice"),
        ("0;4", {}, 'names "4", and the GPUs of this machine are 0,1,2,3'),
        ("0 1", {}, 'names "0 1", and the GPUs of this machine'),
        ("0;1", {"CUDA_VISIBLE_DEVICES": "0,7"}, 'CUDA_VISIBLE_DEVICES names "7", and the GPUs'),
        ("0;1", {"CUDA_VISIBLE_DEVICES": "1,2"}, "names GPU 0, and CUDA_VISIBLE_DEVICES shows 1,2 only"),
        ("0", {"CUDA_VISIBLE_DEVICES": ""}, 'is "0", and no GPU is visible here'),
    ],
)
def test_gpus_that_cannot_be_shared_out_so_are_told_with_the_remedy(
    tmp_path, machine, monkeypatch, value, environ, told
):
    machine(4)
    for name, one in {gpus.SETTING: value, **environ}.items():
        monkeypatch.setenv(name, one)
    with pytest.raises(CliError) as caught:
        environments(tmp_path)
    assert told in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_gpus_that_the_shell_hides_are_not_used(tmp_path, machine, monkeypatch, hidden):
    machine(2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    monkeypatch.setattr(services, "inference_workers", lambda: 1)
    assert environments(tmp_path)["inference"]["OVERPROOF_PRELOAD"] == "transformers"
    assert gpus.sentence(os.environ) is None


@pytest.mark.parametrize(
    ("n", "environ", "told"),
    [
        (1, {}, "GPUs: 1 inference worker (0); training sees 0 and takes as many as the recipe's training.processes"),
        (2, {}, "GPUs: 2 inference workers (0;1); training sees 0,1 and takes as many as"),
        (
            4,
            {gpus.SETTING: "0,1;2,3", "OVERPROOF_TRAINING_PROCESSES": "4"},
            "GPUs: 2 inference workers (0,1;2,3); training sees 0,1,2,3 and takes 4 (OVERPROOF_TRAINING_PROCESSES)",
        ),
        (
            4,
            {"CUDA_VISIBLE_DEVICES": "1,2", "OVERPROOF_TRAINING_GPUS": "3"},
            "GPUs: 2 inference workers (1;2); training sees 3 ",
        ),
        (None, {}, "GPUs: 1 inference worker (all); training sees all "),
    ],
)
def test_which_gpus_serve_what_is_one_line(machine, monkeypatch, n, environ, told):
    machine(n)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert gpus.sentence(os.environ).startswith(told)


@pytest.mark.parametrize(
    ("environ", "state", "told"),
    [
        ({}, "ok", "would share them out: 2 inference workers (0;1); training sees 0,1"),
        ({gpus.SETTING: "0;2"}, "bad", 'names "2", and the GPUs of this machine are 0,1'),
        ({"CUDA_VISIBLE_DEVICES": ""}, "note", "CUDA_VISIBLE_DEVICES hides them"),
    ],
)
def test_doctor_says_how_gpus_would_be_shared_out(tmp_path, monkeypatch, environ, state, told):
    answers = "case $1 in *uuid*) echo 0, GPU-0; echo 1, GPU-1 ;; *) echo H100, 80 GiB, 79 GiB; echo H100, 80 GiB, 7 GiB ;; esac"
    nvidia_smi(tmp_path / "bin", answers)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    found = list(doctor.gpus(SimpleNamespace(environ={"PATH": str(tmp_path / "bin"), **environ})))
    assert [one.message for one in found[:2]] == ["0: H100, 80 GiB, 79 GiB free", "1: H100, 80 GiB, 7 GiB free"]
    assert (found[2].state, len(found)) == (state, 3)
    assert told in found[2].message


@pytest.mark.parametrize("n", [0, 2], ids=["CPU", "two GPUs"])
def test_shards_at_once_are_set_for_inference_alone(tmp_path, machine, monkeypatch, n):
    if n:
        machine(n)
    monkeypatch.setattr(services, "missing", list)
    monkeypatch.setattr(gpus, "has_gpu", lambda environ: bool(n))
    monkeypatch.setenv("OVERPROOF_CONCURRENCY", "3")
    found = services.programs(StateFolder(tmp_path), RedisServer("redis://x", ("valkey-server",)), 8123, {})
    told = {one.name: one.env.get("OVERPROOF_CONCURRENCY") for one in found}
    assert {value for name, value in told.items() if name.startswith("inference")} == {"3"}
    assert told["training"] == "1" if n else told["training"] in ("1", "2")
    assert {told[name] for name in ("gateway", "pipeline", "grading", "reporting")} == {None}
    assert all("OVERPROOF_CONCURRENCY" in one.without for one in found if one.name != "redis")
