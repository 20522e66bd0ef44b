"""What a container looks at before its service starts, and its sign of life afterwards."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis

from overproof.shared import container, telemetry
from overproof.shared.celery_app import run_worker
from overproof.shared.errors import BrokerUnavailable, StorageUnavailable
from overproof.shared.settings import SecretMissing, Settings, read_secret_files, with_password
from overproof.shared.topology import Service
from overproof.shared.worker import Worker

Holder = subprocess.Popen[str]


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "OVERPROOF_REDIS_URL", "OVERPROOF_REDIS_PASSWORD", "OVERPROOF_STORAGE"):
        monkeypatch.delenv(name, raising=False)


def test_password_goes_into_a_url_without_one() -> None:
    assert with_password("redis://redis:6379/0", "a/b@c") == "redis://:a%2Fb%40c@redis:6379/0"
    assert with_password("redis://me@redis:6379/0", "x") == "redis://me:x@redis:6379/0"
    assert with_password("redis://:old@redis:6379/0", "new") == "redis://:old@redis:6379/0"
    assert Settings(redis_url="redis://h/0", redis_password="x").redis_url == "redis://:x@h/0"
    assert "hidden" not in repr(Settings(redis_url="redis://:p@h/0", redis_password="hidden"))


def test_secret_is_read_from_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("secret\n")
    monkeypatch.setenv("OVERPROOF_REDIS_PASSWORD_FILE", str(tmp_path / "password"))
    monkeypatch.setenv("OVERPROOF_REDIS_PASSWORD", "to be removed again")
    monkeypatch.delenv("OVERPROOF_REDIS_PASSWORD")
    read_secret_files()
    assert Settings().redis_url == "redis://:secret@127.0.0.1:6379/0"


@pytest.mark.parametrize("content", [None, ""])
def test_missing_or_empty_secret_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "password"
    if content is not None:
        path.write_text(content)
    monkeypatch.setenv("OVERPROOF_REDIS_PASSWORD_FILE", str(path))
    with pytest.raises(SecretMissing, match=f"{path} .*OVERPROOF_REDIS_PASSWORD_FILE"):
        read_secret_files()


def test_all_is_well(monkeypatch: pytest.MonkeyPatch, redis_url: str, storage: Path) -> None:
    monkeypatch.setenv("OVERPROOF_REDIS_URL", redis_url)
    monkeypatch.setenv("OVERPROOF_STORAGE", str(storage))
    container.check({})
    assert list((storage / "probes").iterdir()) == []


def test_wrong_password_is_told_at_once(redis_url: str) -> None:
    started, server = time.monotonic(), redis.Redis.from_url(redis_url)
    server.config_set("requirepass", "right")
    try:
        for url in (redis_url, redis_url.replace("redis://", "redis://:wrong@")):
            with pytest.raises(BrokerUnavailable, match="refuses the password"):
                container.check_redis(url, seconds=60)
    finally:
        redis.Redis.from_url(redis_url, password="right").config_set("requirepass", "")
    assert time.monotonic() - started < 5


def test_absent_redis_is_waited_for_and_then_named() -> None:
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:1 does not answer"):
        container.check_redis("redis://:pw@127.0.0.1:1/0", seconds=0.1)


def test_storage_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "flat").write_text("")
    for place in (tmp_path / "flat", Path("/proc/storage")):
        with pytest.raises(StorageUnavailable, match=rf"{place.name} cannot be written.*OVERPROOF_STORAGE"):
            container.check_storage(str(place))


def test_taken_port_and_missing_gpu_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("", 0))
        other.listen()
        with pytest.raises(container.PortTaken, match="is taken"):
            container.check_port(other.getsockname()[1])
    monkeypatch.setattr("os.path.exists", lambda _: False)
    with pytest.raises(container.NoGpu, match="NVIDIA Container Toolkit"):
        container.check_gpu(lambda _: None)


@pytest.mark.parametrize("argument", ["os", "overproof", "overproof.grading; ls"])
def test_only_services_are_started(monkeypatch: pytest.MonkeyPatch, argument: str) -> None:
    monkeypatch.setattr("sys.argv", ["container", argument])
    with pytest.raises(SystemExit, match="Name one service"):
        container.main()


def test_idle_worker_touches_its_heartbeat_file(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, storage: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("overproof.shared.heartbeat.SECONDS_PER_BEAT", 0.2)
    beats = tmp_path / "heartbeat"
    settings = Settings(storage=str(storage), redis_url=redis_url, heartbeat_file=beats)
    worker = Worker(Service.GRADING, settings)
    stopped = threading.Event()

    def serve() -> None:
        with contextlib.suppress(SystemExit):
            run_worker(worker.app, Service.GRADING, settings)
        stopped.set()

    monkeypatch.setattr("celery.apps.worker.Worker.install_platform_tweaks", lambda self, worker: None)
    threading.Thread(target=serve, daemon=True).start()
    first = _age_changes(beats, 0)
    _age_changes(beats, first)
    from celery.worker import state

    state.should_stop = 0
    assert stopped.wait(10)
    state.should_stop = None


def _age_changes(path: Path, since: float) -> float:
    end = time.monotonic() + 10
    while time.monotonic() < end:
        if path.exists() and path.stat().st_mtime > since:
            return path.stat().st_mtime
        time.sleep(0.05)
    raise AssertionError("no heartbeat")


def test_log_line_carries_the_fields_of_its_block() -> None:
    formatter = telemetry.JsonLines("grading")
    record = logging.LogRecord("x", logging.INFO, "f", 1, "hello %s", ("you",), None)
    with telemetry.log_fields(run_id="r", stage="grade", shard=0), telemetry.log_fields(shard=3, unknown=1):
        line = json.loads(formatter.format(record))
    assert line | {"time": ""} == {
        "time": "", "service": "grading", "level": "info", "logger": "x", "message": "hello you", "run_id": "r", "stage": "grade", "shard": 3,
    }  # fmt: skip
    assert "run_id" not in json.loads(formatter.format(record))


@pytest.fixture
def entry(redis_url: str, storage: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`entry(NAME=value)`: the container's first program, as an image starts it, with these settings changed."""

    def start(**change: str) -> subprocess.CompletedProcess[str]:
        well = {"PATH": os.environ["PATH"], "OVERPROOF_REDIS_URL": redis_url, "OVERPROOF_STORAGE": str(storage)}
        command = [sys.executable, "-m", "overproof.shared.container", "overproof.grading"]
        return subprocess.run(command, env=well | change, capture_output=True, text=True, check=False, timeout=60)

    return start


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"OVERPROOF_REDIS_PASSWORD_FILE": "/run/secrets/none"}, "Provide it, or mend OVERPROOF_REDIS_PASSWORD_FILE"),
        ({"OVERPROOF_REDIS_PASSWORD": "wrong"}, "Give every service and Redis the same one"),
        ({"OVERPROOF_STORAGE": "/proc/storage"}, "Let user"),
        ({"OVERPROOF_REQUIRE_GPU": "1"}, "Install the NVIDIA Container Toolkit"),
        ({"OVERPROOF_METRICS_PORT": "taken"}, "Name another port"),
        ({"OVERPROOF_METRICS_PORT": "99999"}, "(OVERPROOF_METRICS_PORT: Input should be less than or equal to 65535)"),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "Set it to http/protobuf"),
    ],
)  # fmt: skip
def test_container_says_what_is_wrong_in_one_line_and_ends(
    entry: Callable[..., subprocess.CompletedProcess[str]], redis_url: str, change: dict[str, str], says: str
) -> None:
    if "OVERPROOF_REQUIRE_GPU" in change and (shutil.which("nvidia-smi") or os.path.exists("/dev/nvidiactl")):
        pytest.skip("this machine has a GPU")
    server = redis.Redis.from_url(redis_url)
    if "OVERPROOF_REDIS_PASSWORD" in change:
        server.config_set("requirepass", "right")
    with socket.socket() as other:
        if change.get("OVERPROOF_METRICS_PORT") == "taken":
            other.bind(("", 0))
            other.listen()
            change = {"OVERPROOF_METRICS_PORT": str(other.getsockname()[1])}
        try:
            done = entry(**change)
        finally:
            redis.Redis.from_url(
                redis_url, password="right" if "OVERPROOF_REDIS_PASSWORD" in change else None
            ).config_set("requirepass", "")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("overproof.grading: ")
    assert says in done.stderr


# --- GPUs of several inference containers on one host -----------------------------------------------------------------

HOLDER = """
import os, sys
from pathlib import Path
from overproof.shared.container import take_gpus
print(take_gpus(sys.argv[1], Path(sys.argv[2])), flush=True)
os.execvp("sleep", ["sleep", "600"])
"""


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[[str], Holder]]:
    """Starts a process that takes GPUs and becomes another program, as a container does."""
    started: list[Holder] = []

    def start(groups: str) -> Holder:
        command = [sys.executable, "-c", HOLDER, groups, str(tmp_path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def said(process: Holder) -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def test_each_container_takes_gpus_that_no_other_has(holder: Callable[[str], Holder]) -> None:
    first, second = holder("0,1;2,3"), holder("0,1;2,3")
    taken = said(first)
    assert {taken, said(second)} == {"0,1", "2,3"}
    third = holder("0,1;2,3")
    assert said(third) == ""
    assert "Other inference containers have all GPUs of OVERPROOF_INFERENCE_GPUS" in third.communicate(timeout=30)[1]
    first.kill()
    first.wait()
    assert said(holder("0,1;2,3")) == taken


@pytest.mark.parametrize("groups", ["", "0;", ";0", "0,,1", "0;1;0", "0,0", "../0", "0/1", "a b;"])
def test_groups_of_gpus_that_cannot_be_are_told(tmp_path: Path, groups: str) -> None:
    with pytest.raises(container.SettingWrong, match="OVERPROOF_INFERENCE_GPUS is"):
        container.take_gpus(groups, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_containers_that_share_no_volume_are_told(tmp_path: Path) -> None:
    with pytest.raises(container.SettingWrong, match=r"absent cannot be written: No such file.*Mount one volume there"):
        container.take_gpus("0;1", tmp_path / "absent")


def test_service_sees_the_gpus_that_its_container_took(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    became: list[str | None] = []
    monkeypatch.setattr(container, "check", lambda environ: None)
    monkeypatch.setattr(container, "GPU_LOCKS", tmp_path)
    monkeypatch.setattr(os, "execv", lambda *command: became.append(os.environ.get("CUDA_VISIBLE_DEVICES")))
    monkeypatch.setattr(sys, "argv", ["container", "overproof.inference"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    container.main()
    monkeypatch.setenv("OVERPROOF_INFERENCE_GPUS", "2;3")
    for _ in range(2):
        container.main()
    assert became == ["7", "2", "3"]
    assert capsys.readouterr().err.splitlines()[-1] == "overproof.inference: has GPU 3 of 2;3"
