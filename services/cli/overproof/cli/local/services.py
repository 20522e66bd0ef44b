"""Which programs make an installation on one machine, and the settings each gets."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from overproof.cli.errors import CliError
from overproof.cli.local.ports import LOOPBACK, free_ports
from overproof.cli.local.redis_server import RedisServer
from overproof.cli.local.state import StateFolder
from overproof.cli.local.supervisor import Program

SERVICES = ("gateway", "pipeline", "inference", "grading", "training", "reporting")
LEASE_SECONDS = 10  # on one machine a lost worker is noticed at once, and its shard is seconds of work


def missing() -> list[str]:
    """Services that are not installed beside this command."""
    return [name for name in SERVICES if not _installed(name)]


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(f"overproof.{name}.__main__") is not None
    except ModuleNotFoundError:
        return False


def programs(
    state: StateFolder, redis: RedisServer, gateway_port: int, roots: Mapping[str, Path], n_cores: int | None = None
) -> list[Program]:
    """Redis first (when it is ours), then every service. `roots`: folders for `model_root` and `data_root`."""
    if absent := missing():
        raise CliError(
            f"Not installed here: {', '.join(f'overproof-{name}' for name in absent)}.",
            "make setup, or pip install 'overproof-cli[local]'.",
        )
    common = _environment(state, redis, roots)
    cores = n_cores or len(os.sched_getaffinity(0))
    ports = free_ports(len(SERVICES))
    found = [Program("redis", redis.argv)] if redis.argv else []
    for name, metrics_port in zip(SERVICES, ports, strict=True):
        env = common | {"OVERPROOF_METRICS_PORT": str(metrics_port)} | _threads(name, cores)
        if name == "gateway":
            env |= {"OVERPROOF_HOST": LOOPBACK, "OVERPROOF_PORT": str(gateway_port), "OVERPROOF_METRICS_PORT": "0"}
        found.append(Program(name, (sys.executable, "-m", f"overproof.{name}"), env))
    return found


def _environment(state: StateFolder, redis: RedisServer, roots: Mapping[str, Path]) -> dict[str, str]:
    offline = {} if os.environ.get("OVERPROOF_ALLOW_HUB") else {"HF_HUB_OFFLINE": "1"}
    return {
        "OVERPROOF_STORAGE": str(state.storage.resolve()),
        "OVERPROOF_REDIS_URL": redis.url,
        "OVERPROOF_LEASE_SECONDS": str(LEASE_SECONDS),
        "PYTHONUNBUFFERED": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **{f"OVERPROOF_{name.upper()}": str(path.resolve()) for name, path in roots.items()},
        **offline,
    }


def _threads(name: str, cores: int) -> dict[str, str]:
    """Torch's threads for the models; one for everybody else, or six services would fight over a few cores."""
    if name == "inference":
        return {"OMP_NUM_THREADS": str(cores), "OVERPROOF_TORCH_THREADS": str(cores), "OMP_WAIT_POLICY": "PASSIVE"}
    return {"OMP_NUM_THREADS": "1"}
