"""A container's first program: `python -m overproof.shared.container overproof.grading`.

What a service cannot do without is looked at before it starts. What is missing is said in one line that names the remedy,
and the exit status is 1; otherwise this process becomes the service.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import socket
import sys
import time
from collections.abc import Callable, Mapping
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


class SettingWrong(UserError):
    """An environment variable has a value that it cannot have."""


class NoGpu(UserError):
    """The container should have a GPU and has none."""


class PortTaken(UserError):
    """Another process listens where this one should."""


def main() -> None:
    """Check, then become the service that the first argument names."""
    module = sys.argv[1] if len(sys.argv) == 2 else ""
    if not MODULE.match(module):
        sys.exit("Name one service, e.g. overproof.grading.")
    try:
        check(os.environ)
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
