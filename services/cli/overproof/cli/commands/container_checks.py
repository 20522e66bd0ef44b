"""What `overproof doctor` looks at where the services run as containers of this machine (compose/)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from overproof.cli.commands.findings import Finding

COMPOSE = Path("compose")
SECRETS = ("redis_password", "api_keys", "api_key")
USER = 10001
"""Whom the services run as in their containers."""
SECONDS_FOR_DOCKER = 10
TOOLKIT = "Install the NVIDIA Container Toolkit, then `nvidia-ctk runtime configure --runtime=docker`; or `make up` without GPUs."


def findings(environ: Mapping[str, str], answering: bool, folder: Path = COMPOSE) -> Iterator[Finding]:
    """Nothing where there is no compose/base.yaml. `answering`: a gateway answers already, so its port is rightly taken."""
    if not (folder / "base.yaml").is_file():
        return
    yield from secrets(Path(environ.get("OVERPROOF_SECRETS", folder / "secrets")))
    yield from volume(environ.get("OVERPROOF_STORE", ""))
    if not answering:
        yield from port(int(environ.get("OVERPROOF_PORT", "8000")), environ.get("OVERPROOF_BIND", "127.0.0.1"))
    yield from engine(environ)


def engine(environ: Mapping[str, str]) -> Iterator[Finding]:
    """The Docker engine, and whether it can give a container a GPU."""
    program = shutil.which("docker", path=environ.get("PATH"))
    if program is None:
        yield Finding("containers", "note", "docker is not installed; `overproof local up` needs none")
        return
    command = [program, "info", "--format", "{{json .}}"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_FOR_DOCKER, check=False)
        info: dict[str, Any] = json.loads(said.stdout or "{}")
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        yield Finding("containers", "note", f"docker fails: {error}", "Mend it, or use `overproof local up`.")
        return
    if not info.get("ServerVersion"):
        wrong = (info.get("ServerErrors") or said.stderr.strip().splitlines() or ["no answer"])[0]
        yield Finding(
            "containers", "note", f"the Docker engine does not answer: {wrong}",
            "Start it (`systemctl start docker`), and be in the group `docker`.",
        )  # fmt: skip
        return
    yield Finding("containers", "ok", f"Docker {info['ServerVersion']} answers")
    if shutil.which("nvidia-smi", path=environ.get("PATH")) and "nvidia" not in (info.get("Runtimes") or {}):
        yield Finding(
            "containers: GPU", "bad", "this machine has a GPU, and its Docker engine no NVIDIA runtime", TOOLKIT
        )


def secrets(folder: Path) -> Iterator[Finding]:
    """The files that containers read their secrets from."""
    lacking = [name for name in SECRETS if not (folder / name).is_file() or not (folder / name).stat().st_size]
    if lacking:
        yield Finding(
            "containers: secrets", "note", f"{folder}/ lacks {', '.join(lacking)}", "make secrets (`make up` does)."
        )
    else:
        yield Finding("containers: secrets", "ok", f"all are in {folder}/")


def port(number: int, address: str) -> Iterator[Finding]:
    """Where the gateway would be published."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, number))
        except OSError as error:
            yield Finding(
                "containers: port", "bad", f"{address}:{number} cannot be taken: {error.strerror}",
                "End what listens there (`ss -ltnp`), or set OVERPROOF_PORT.",
            )  # fmt: skip


def volume(store: str) -> Iterator[Finding]:
    """A folder that is mounted as storage belongs to the services' user, or is open to it. A named volume is made rightly."""
    if "/" not in store:
        return
    if not Path(store).is_dir():
        yield Finding("containers: storage", "bad", f"OVERPROOF_STORE {store} is no folder", f"mkdir -p {store}")
        return
    state = os.stat(store)
    mine = state.st_uid == USER and state.st_mode & 0o300 == 0o300
    if mine or (state.st_gid == USER and state.st_mode & 0o030 == 0o030) or state.st_mode & 0o003 == 0o003:
        yield Finding("containers: storage", "ok", f"user {USER} can write to {store}")
    else:
        yield Finding(
            "containers: storage", "bad", f"user {USER} cannot write to {store}", f"chown {USER}:{USER} {store}"
        )
