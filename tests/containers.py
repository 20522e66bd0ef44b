"""The services as containers of a Compose project of their own, for tests. Needs a Docker engine and images (`make images`)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from overproof.cli.client import Gateway
from overproof.cli.errors import CliError

ROOT = Path(__file__).parents[1]
COMMAND = os.environ.get("OVERPROOF_TEST_COMPOSE", "").split()
"""How Compose is called; empty where there is no engine."""
SERVICES = ("gateway", "pipeline", "inference", "grading", "training", "reporting")


class Stack:
    """Files of compose/ as the project `name`, with its own secrets and volumes; the gateway on `port`, Prometheus on the next."""

    def __init__(self, name: str, files: tuple[str, ...], secrets: Path, port: int) -> None:
        self.name, self.files, self.secrets, self.port = name, files, secrets, port
        subprocess.run(["sh", str(ROOT / "compose" / "secrets.sh"), str(secrets)], check=True)
        ports = {"OVERPROOF_PORT": str(port), "PROMETHEUS_PORT": str(port + 1)}
        self.env = {**os.environ, **ports, "OVERPROOF_SECRETS": str(secrets)}
        self.gateway = Gateway(f"http://127.0.0.1:{port}", (secrets / "api_key").read_text())

    def command(self, *arguments: str) -> list[str]:
        files = [argument for file in self.files for argument in ("-f", str(ROOT / "compose" / file))]
        return [*COMMAND, "-p", self.name, *files, *arguments]

    def compose(self, *arguments: str) -> str:
        done = subprocess.run(self.command(*arguments), env=self.env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    def kill(self, container: str) -> None:
        """SIGKILL of the service itself, from outside the engine, so that its restart policy counts."""
        os.kill(int(docker("inspect", "-f", "{{.State.Pid}}", f"{self.name}-{container}")), signal.SIGKILL)

    def state(self, run_id: str) -> str:
        """A run's; "unknown" while the gateway or Redis is away."""
        try:
            return str(self.gateway.run(run_id)["state"])
        except CliError:
            return "unknown"

    def lease_owners(self) -> list[str]:
        """Who is at work on a shard: `service-hostname-pid-...` of each lease."""
        program = (
            "import os, redis; from overproof.shared.settings import Settings, read_secret_files; read_secret_files();"
            "r = redis.Redis.from_url(Settings().redis_url, decode_responses=True);"
            "print(*filter(None, (r.get(key) for key in r.scan_iter('overproof:lease:*'))), sep='\\n')"
        )
        return self.compose("exec", "-T", "gateway", "python3", "-c", program).split()

    def prometheus(self, path: str, **query: str) -> Any:
        answer = httpx.get(f"http://127.0.0.1:{self.port + 1}/api/v1/{path}", params=query, timeout=20).json()
        assert answer["status"] == "success", answer
        return answer["data"]

    def metrics(self, service: str) -> str:
        """What a service exposes, read inside its container."""
        port = 8000 if service == "gateway" else 9000
        program = f"import urllib.request as r; print(r.urlopen('http://127.0.0.1:{port}/metrics').read().decode())"
        return self.compose("exec", "-T", service, "python3", "-c", program)


@contextmanager
def removed_at_the_end(stack: Stack) -> Iterator[Stack]:
    """Nothing of it is left afterwards."""
    try:
        yield stack
    finally:
        stack.compose("down", "-v")


def docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], check=True, capture_output=True, text=True).stdout.strip()


def until(true: Callable[[], Any], seconds: float, what: str = "it") -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"{what} did not come within {seconds:.0f} s"
        time.sleep(0.2)
