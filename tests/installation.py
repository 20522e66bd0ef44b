"""A whole installation for the end-to-end tests: every service as its own process, on a folder of its own."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from overproof.cli.client import Gateway
from overproof.cli.errors import CliError
from overproof.cli.local import redis_server, services
from overproof.cli.local.ports import free_ports
from overproof.cli.local.state import StateFolder
from overproof.cli.local.supervisor import Supervisor
from overproof.shared.artifacts import Artifacts
from overproof.shared.files import Files

ROOT = Path(__file__).parents[1]
READY_SECONDS = 120.0
FINAL = {"succeeded", "failed", "cancelled"}


class Installation:
    """Start it, submit recipes over HTTP, kill parts of it."""

    def __init__(self, folder: Path) -> None:
        self.state = StateFolder(folder)
        environ = {"PATH": os.environ["PATH"]}
        redis = redis_server.configure(self.state.redis, environ)
        (port,) = free_ports(1)
        roots = {"model_root": ROOT / "demo" / "models", "data_root": folder}
        programs = services.programs(self.state, redis, port, roots)
        self.supervisor = Supervisor(programs, self.state.logs)
        self.gateway = Gateway(f"http://127.0.0.1:{port}")
        self.artifacts = Artifacts(Files(str(self.state.storage)))

    def start(self) -> None:
        self.supervisor.start()
        self._until(self._ready, READY_SECONDS, "the services are not ready")

    def _ready(self) -> bool:
        try:
            return bool(self.gateway.readiness()[0] < 400)
        except CliError:
            return False

    def submit(self, recipe: dict[str, Any], key: str = "test") -> str:
        return str(self.gateway.submit(recipe, key=key)["id"])

    def wait(self, run_id: str, seconds: float = 600) -> dict[str, Any]:
        """The run's view once it is over."""
        self._until(lambda: self.state_of(run_id) in FINAL, seconds, f"run {run_id} did not end")
        return self.gateway.run(run_id)

    def state_of(self, run_id: str) -> str:
        try:
            return str(self.gateway.run(run_id).get("state"))
        except CliError:  # the gateway or Redis is being restarted
            return "unknown"

    def wait_for(self, run_id: str, stage: str, shards: int, seconds: float = 300) -> None:
        """Until this many shards of the stages whose label begins so are done."""

        def reached() -> bool:
            try:
                stages = self.gateway.run(run_id)["stages"]
            except CliError:
                return False
            return bool(sum(one["shards_done"] for one in stages if one["label"].startswith(stage)) >= shards)

        self._until(reached, seconds, f"{stage} did not reach {shards} shards")

    def kill(self, name: str) -> None:
        """`kill -9` of a service's processes; the supervisor starts them again."""
        found = [pid for program, pid in self.supervisor.processes().items() if program.partition("-")[0] == name]
        assert found
        for pid in found:
            os.kill(pid, signal.SIGKILL)

    def wipe_redis(self) -> None:
        """`kill -9` of the Redis server, and its data gone."""
        self.kill("redis")
        for path in self.state.redis.iterdir():
            if path.is_dir():
                shutil.rmtree(path)

    def _until(self, true: Callable[[], bool], seconds: float, message: str) -> None:
        end = time.monotonic() + seconds
        while not true():
            if time.monotonic() > end:
                raise AssertionError(f"{message} within {seconds:.0f} s; logs in {self.state.logs}")
            self.supervisor.wait(0.3)


@contextmanager
def installed(folder: Path) -> Iterator[Installation]:
    """A running installation; nothing of it is left afterwards."""
    installation = Installation(folder)
    try:
        installation.start()
        yield installation
    finally:
        installation.supervisor.stop()
