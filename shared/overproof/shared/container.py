"""A container's first program: `python -m overproof.shared.container overproof.grading`.

What a service cannot do without is looked at before it starts. What is missing is said in one line that names the remedy,
and the exit status is 1; otherwise this process becomes the service.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import redis
from pydantic import ValidationError

from overproof.shared import tracing
from overproof.shared.errors import BrokerUnavailable, OverproofError, StorageUnavailable, UserError
from overproof.shared.files import Files
from overproof.shared.settings import Settings, read_secret_files

MODULE = re.compile(r"^overproof\.[a-z]+$")
SECONDS_FOR_REDIS = 60.0
"""Redis may be starting beside us, and loads its append-only file first; then an orchestrator should tell."""
SECONDS_BETWEEN_LOOKS = 1.0
GPU_LOCKS = Path("/gpus")
"""A volume that the inference containers of one host share, and nobody else."""
GPU_GROUPS = re.compile(r"[\w-]+(,[\w-]+)*(;[\w-]+(,[\w-]+)*)*")
"""`0;1`, `0,1;2,3`, UUIDs: each group becomes the name of a file."""


class SettingWrong(UserError):
    """An environment variable has a value that it cannot have."""


class NoGpu(UserError):
    """The container should have a GPU and has none."""


class GpusTaken(UserError):
    """There are more inference containers on this host than groups of GPUs."""


class PortTaken(UserError):
    """Another process listens where this one should."""


def main() -> None:
    """Check, then become the service that the first argument names."""
    module = sys.argv[1] if len(sys.argv) == 2 else ""
    if not MODULE.match(module):
        sys.exit("Name one service, e.g. overproof.grading.")
    try:
        check(os.environ)
        if groups := os.environ.get("OVERPROOF_INFERENCE_GPUS"):
            os.environ["CUDA_VISIBLE_DEVICES"] = mine = take_gpus(groups, GPU_LOCKS)
            sys.stderr.write(f"{module}: has GPU {mine} of {groups}\n")
    except OverproofError as error:
        sys.exit(f"{module}: {error}")
    os.execv(sys.executable, [sys.executable, "-m", module])  # noqa: S606  (no shell; signals now reach the service itself)


def check(environ: Mapping[str, str], redis_seconds: float = SECONDS_FOR_REDIS) -> None:
    """Secrets, settings, tracing, GPU, ports, storage, Redis, in this order. Raises OverproofError for the first that fails."""
    read_secret_files()
    settings = _settings()
    tracing.wanted(environ)
    if environ.get("OVERPROOF_REQUIRE_GPU", "").lower() in ("1", "true"):
        check_gpu()
    for port in (settings.metrics_port, int(environ.get("OVERPROOF_PORT", 0))):
        check_port(port)
    check_storage(settings.storage)
    check_redis(settings.redis_url, redis_seconds)


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        names = ", ".join(
            f"OVERPROOF_{one['loc'][0]}".upper() + f": {one['msg']}".replace("\n", " ") for one in error.errors()
        )
        raise SettingWrong(f"A setting is out of range ({names}).", "Mend the environment variable.") from None


def check_gpu(which: Callable[[str], str | None] = shutil.which) -> None:
    """The NVIDIA container runtime puts `nvidia-smi` and the device into the container. Raises NoGpu."""
    if which("nvidia-smi") is None and not os.path.exists("/dev/nvidiactl"):
        raise NoGpu(
            "This container has no GPU.",
            "Install the NVIDIA Container Toolkit and give the container a GPU, or run the CPU images (without gpu.yaml).",
        )


def take_gpus(groups: str, folder: Path) -> str:
    """The first of the groups (`0;1`, or `0,1;2,3`) that no other container of this host has, by a file of it in `folder`. It is this
    process's until it ends, also as the program that it becomes. Raises SettingWrong, GpusTaken.
    """
    wanted = groups.replace(" ", "")
    twice = [name for name, n in Counter(re.split("[;,]", wanted)).items() if n > 1]
    if twice or not GPU_GROUPS.fullmatch(wanted):
        raise SettingWrong(
            f'OVERPROOF_INFERENCE_GPUS is "{groups}"' + (f", which names {twice[0]} twice." if twice else "."),
            'Separate workers by ";" and the GPUs of one worker by ",", each GPU once: "0;1", or "0,1;2,3".',
        )
    for group in wanted.split(";"):
        if _is_locked_now(folder / group):
            return group
    raise GpusTaken(
        f'Other inference containers have all GPUs of OVERPROOF_INFERENCE_GPUS, "{groups}".',
        "Start as many of them as it has groups (INFERENCE_WORKERS of compose), or name more groups.",
    )


def _is_locked_now(path: Path) -> bool:
    """Whether this process is the one that holds the file from now on; the kernel lets go of it when the process ends, however it ends."""
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise SettingWrong(
            f"{path.parent} cannot be written: {error.strerror}. Inference containers agree there on who has which GPU.",
            "Mount one volume there for all of them, as compose/gpu.yaml does, or unset OVERPROOF_INFERENCE_GPUS.",
        ) from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    os.set_inheritable(handle, True)
    return True


def check_port(port: int) -> None:
    """Raises PortTaken. 0 is no port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            if port:
                probe.bind(("", port))
        except OSError:
            raise PortTaken(f"Port {port} is taken in this container.", "Name another port.") from None


def check_storage(url: str) -> None:
    """Writes and removes a small file. Raises StorageUnavailable."""
    files, probe = Files(url), f"probes/{secrets.token_hex(8)}"
    try:
        files.put(probe, b"ready?")
        files.delete(probe)
    except (StorageUnavailable, OSError) as error:
        raise StorageUnavailable(
            f"The storage {url} cannot be written: {error.message if isinstance(error, StorageUnavailable) else error}",
            f"Let user {os.getuid()} write there (for a volume: chown it), or mend OVERPROOF_STORAGE.",
        ) from None


def check_redis(url: str, seconds: float) -> None:
    """Waits for Redis, but not for a password to become right. Raises BrokerUnavailable."""
    place, end = urlsplit(url).netloc.rpartition("@")[2], time.monotonic() + seconds
    client = redis.Redis.from_url(url, socket_connect_timeout=5, socket_timeout=5)
    while True:
        try:
            client.ping()
            return
        except (redis.AuthenticationError, redis.exceptions.AuthorizationError, redis.ResponseError) as error:
            raise BrokerUnavailable(
                f"Redis at {place} refuses the password: {str(error).rstrip('.')}.",
                "Give every service and Redis the same one (OVERPROOF_REDIS_PASSWORD_FILE).",
            ) from None
        except redis.RedisError as error:
            if time.monotonic() > end:
                raise BrokerUnavailable(
                    f"Redis at {place} does not answer: {str(error).rstrip('.')}.",
                    "Start it, or mend OVERPROOF_REDIS_URL.",
                ) from None
        time.sleep(SECONDS_BETWEEN_LOOKS)


if __name__ == "__main__":
    main()
