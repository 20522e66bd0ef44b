"""What doctor says of containers: each fault by its name and with its remedy."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import redis

from overproof.cli.commands import container_checks, doctor
from overproof.cli.commands.findings import Finding


@pytest.fixture
def compose(tmp_path: Path) -> Path:
    folder = tmp_path / "compose"
    (folder / "secrets").mkdir(parents=True)
    (folder / "base.yaml").write_text("services: {}")
    for name in container_checks.SECRETS:
        (folder / "secrets" / name).write_text("secret")
    return folder


def program(folder: Path, name: str, says: str, status: int = 0) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{says}\nEND\nexit {status}\n")
    path.chmod(0o755)


def found(compose: Path, answering: bool = True, **environ: str) -> dict[str, Finding]:
    environ = {"PATH": str(compose), **environ}
    (compose / "cat").exists() or (compose / "cat").symlink_to("/bin/cat")
    return {one.subject: one for one in container_checks.findings(environ, answering, compose)}


def test_nothing_is_said_where_there_are_no_containers(tmp_path: Path) -> None:
    assert list(container_checks.findings({}, False, tmp_path)) == []


def test_all_is_well(compose: Path) -> None:
    program(compose, "docker", '{"ServerVersion": "28.1", "Runtimes": {"runc": {}}}')
    assert {one.state for one in found(compose).values()} == {"ok"}


def test_secret_that_is_missing_or_empty_is_named(compose: Path) -> None:
    (compose / "secrets" / "api_keys").write_text("")
    (compose / "secrets" / "redis_password").unlink()
    one = found(compose)["containers: secrets"]
    assert "lacks redis_password, api_keys" in one.message
    assert "make secrets" in one.remedy


def test_gpu_without_its_runtime_is_named(compose: Path) -> None:
    program(compose, "docker", '{"ServerVersion": "28.1", "Runtimes": {"runc": {}}}')
    program(compose, "nvidia-smi", "")
    one = found(compose)["containers: GPU"]
    assert (one.state, "NVIDIA Container Toolkit" in one.remedy) == ("bad", True)
    program(compose, "docker", '{"ServerVersion": "28.1", "Runtimes": {"nvidia": {}}}')
    assert "containers: GPU" not in found(compose)


def test_engine_that_does_not_answer_is_named(compose: Path) -> None:
    program(compose, "docker", '{"ServerErrors": ["Cannot connect to the Docker daemon"]}', 1)
    assert "Cannot connect" in found(compose)["containers"].message
    program(compose, "docker", "not JSON")
    assert "docker fails" in found(compose)["containers"].message


def test_port_that_is_taken_is_named(compose: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1])
        one = found(compose, answering=False, OVERPROOF_PORT=port)["containers: port"]
        assert (one.state, port in one.message, "OVERPROOF_PORT" in one.remedy) == ("bad", True, True)
        assert "containers: port" not in found(compose, OVERPROOF_PORT=port)


def test_folder_that_the_services_cannot_write_is_named(compose: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    assert "is no folder" in found(compose, OVERPROOF_STORE=str(store))["containers: storage"].message
    store.mkdir(mode=0o755)
    one = found(compose, OVERPROOF_STORE=str(store))["containers: storage"]
    assert (one.state, one.remedy) == ("bad", f"chown 10001:10001 {store}")
    store.chmod(0o777)
    assert found(compose, OVERPROOF_STORE=str(store))["containers: storage"].state == "ok"
    if os.geteuid() == 0:
        store.chmod(0o700)
        os.chown(store, 10001, 10001)
        assert found(compose, OVERPROOF_STORE=str(store))["containers: storage"].state == "ok"


def test_wrong_password_of_redis_is_told_from_a_server_that_is_away(redis_url: str) -> None:
    server = redis.Redis.from_url(redis_url)
    server.config_set("requirepass", "right")
    try:
        for url in (redis_url, redis_url.replace("redis://", "redis://:wrong@")):
            (one,) = doctor.redis(SimpleNamespace(environ={"REDIS_URL": url}))  # type: ignore[arg-type]
            assert (one.state, "refuses the password" in one.message, "redis_password" in one.remedy) == (
                "bad",
                True,
                True,
            )
        (well,) = doctor.redis(SimpleNamespace(environ={"REDIS_URL": redis_url.replace("redis://", "redis://:right@")}))  # type: ignore[arg-type]
        assert well.state == "ok"
    finally:
        redis.Redis.from_url(redis_url, password="right").config_set("requirepass", "")
    (away,) = doctor.redis(SimpleNamespace(environ={"REDIS_URL": "redis://127.0.0.1:1/0"}))  # type: ignore[arg-type]
    assert "does not answer" in away.message
