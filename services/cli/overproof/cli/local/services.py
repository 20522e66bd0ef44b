"""Which programs make an installation on one machine, and the settings each gets."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from overproof.cli.errors import CliError
from overproof.cli.local import gpus
from overproof.cli.local.ports import LOOPBACK, free_ports
from overproof.cli.local.redis_server import RedisServer
from overproof.cli.local.state import StateFolder
from overproof.cli.local.supervisor import Program

SERVICES = ("gateway", "pipeline", "inference", "grading", "training", "reporting")
MAX_INFERENCE_WORKERS = 4  # each loads the models for itself
MAX_TRAININGS = 2
"""Students of two policies learn side by side: on a CPU a tiny one keeps no more than a core busy."""
SHARDS_IN_FLIGHT = 8
"""Of a vLLM worker: twice the sequences that it runs at once (1,024 on a large GPU) in shards of some 300, so that its batch never drains."""
MODEL_ROOTS = (Path("models"), Path("demo/models"))
FOR_INFERENCE_ALONE = "OVERPROOF_CONCURRENCY"
"""Set in the shell it is inference's: several trainings at once on one GPU, say, are never meant."""
LEASE_SECONDS = 10  # on one machine a lost worker is noticed at once, and its shard is seconds of work


def missing() -> list[str]:
    """Services that are not installed beside this command."""
    return [name for name in SERVICES if not _installed(name)]


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(f"overproof.{name}.__main__") is not None
    except ModuleNotFoundError:
        return False


def programs(state: StateFolder, redis: RedisServer, gateway_port: int, roots: Mapping[str, Path]) -> list[Program]:
    """Redis first (when it is ours), then every service. `roots`: folders for `model_root` and `data_root`.

    Raises CliError for services that are not installed, and for GPUs that cannot be shared out so.
    """
    if absent := missing():
        raise CliError(
            f"Not installed here: {', '.join(f'overproof-{name}' for name in absent)}.",
            "make setup, or pip install 'overproof-cli[local]'.",
        )
    common = _environment(state, redis, roots)
    workers = [one for service in SERVICES for one in _processes(service, gateway_port)]
    found = [Program("redis", redis.argv, ends_last=True)] if redis.argv else []
    for (service, name, own), metrics_port in zip(workers, free_ports(len(workers)), strict=True):
        env = common | {"OVERPROOF_METRICS_PORT": str(metrics_port)} | own
        argv = (sys.executable, "-m", f"overproof.{service}")
        found.append(Program(name, argv, env, without=(FOR_INFERENCE_ALONE,)))
    return found


class _Process(NamedTuple):
    service: str
    name: str
    own: dict[str, str]
    """Settings that the others do not get."""


def _processes(service: str, gateway_port: int) -> list[_Process]:
    """One, but of inference one per GPU or core."""
    if service == "inference":
        each = _inference()
        names = [service] if len(each) == 1 else [f"{service}-{number}" for number in range(1, len(each) + 1)]
        return [_Process(service, name, own) for name, own in zip(names, each, strict=True)]
    own = {}
    if service == "gateway":
        own = {"OVERPROOF_HOST": LOOPBACK, "OVERPROOF_PORT": str(gateway_port), "OVERPROOF_METRICS_PORT": "0"}
    if service == "training":
        at_once = 1 if gpus.has_gpu(os.environ) else min(MAX_TRAININGS, len(os.sched_getaffinity(0)))
        own = {"OVERPROOF_CONCURRENCY": str(at_once)}
    return [_Process(service, service, own)]


def _inference() -> list[dict[str, str]]:
    """Settings of each inference worker."""
    at_once = os.environ.get(FOR_INFERENCE_ALONE)
    shares = gpus.groups(os.environ)
    if not shares:
        own = {"OVERPROOF_PRELOAD": "transformers"} | ({FOR_INFERENCE_ALONE: at_once} if at_once else {})
        return [own] * inference_workers()
    own = {"OVERPROOF_PRELOAD": "vllm", FOR_INFERENCE_ALONE: at_once or str(SHARDS_IN_FLIGHT)}
    return [own | ({gpus.VISIBLE: share} if share else {}) for share in shares]


def model_root(environ: Mapping[str, str]) -> Path:
    """Where model folders lie when nobody says so: `models`, else the demo's."""
    if named := environ.get("OVERPROOF_MODEL_ROOT"):
        return Path(named)
    return next((root for root in MODEL_ROOTS if root.is_dir()), MODEL_ROOTS[0])


def storage(state: StateFolder) -> str:
    """The bucket that the environment names, or the state folder's own storage."""
    named = os.environ.get("OVERPROOF_STORAGE", "")
    return named if named.startswith("s3://") else str(state.storage.resolve())


def inference_workers() -> int:
    """Without a GPU: one per core, since two of one thread beat one of two."""
    return max(1, min(MAX_INFERENCE_WORKERS, len(os.sched_getaffinity(0))))


def _environment(state: StateFolder, redis: RedisServer, roots: Mapping[str, Path]) -> dict[str, str]:
    offline = {} if os.environ.get("OVERPROOF_ALLOW_HUB") else {"HF_HUB_OFFLINE": "1"}
    return {
        "OVERPROOF_STORAGE": storage(state),
        "OVERPROOF_REDIS_URL": redis.url,
        "OVERPROOF_LEASE_SECONDS": str(LEASE_SECONDS),
        # numbers are nvidia-smi's, also where the cards differ
        "CUDA_DEVICE_ORDER": os.environ.get("CUDA_DEVICE_ORDER", "PCI_BUS_ID"),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": "1",  # or so many processes would fight over a few cores; training sets its own
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        **{f"OVERPROOF_{name.upper()}": str(path.resolve()) for name, path in roots.items()},
        **offline,
    }
