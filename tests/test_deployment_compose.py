"""The demo, shortened, through containers and their published port, under SIGKILL. Needs a Docker engine and the images (`make images`).

OVERPROOF_TEST_COMPOSE="docker compose" pytest tests/test_deployment_compose.py
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from overproof.cli.client import Gateway
from overproof.cli.errors import CliError

ROOT = Path(__file__).parents[1]
PROJECT = "overproof-test"
COMMAND = os.environ.get("OVERPROOF_TEST_COMPOSE", "").split()
PORT = 18_765
DATA = {
    "train": {"generator": "demo-math", "split": "train", "n": 480, "seed": 21},
    "test": {"generator": "demo-math", "split": "test", "n": 60, "seed": 22},
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not COMMAND, reason="OVERPROOF_TEST_COMPOSE does not name a Compose command"),
]


class Stack:
    """A project of its own: its volumes go with it."""

    def __init__(self, secrets: Path) -> None:
        self.env = {**os.environ, "OVERPROOF_PORT": str(PORT), "OVERPROOF_SECRETS": str(secrets)}
        self.gateway = Gateway(f"http://127.0.0.1:{PORT}", (secrets / "api_key").read_text())

    def compose(self, *arguments: str) -> str:
        command = [*COMMAND, "-p", PROJECT, "-f", str(ROOT / "compose" / "base.yaml"), *arguments]
        return subprocess.run(command, env=self.env, check=True, capture_output=True, text=True).stdout

    def kill(self, container: str) -> None:
        """SIGKILL of the service itself, from outside the engine, so that its restart policy counts."""
        name = f"{PROJECT}-{container}"
        pid = subprocess.run(
            ["docker", "inspect", "-f", "{{.State.Pid}}", name], check=True, capture_output=True, text=True
        )
        os.kill(int(pid.stdout), signal.SIGKILL)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    secrets = tmp_path_factory.mktemp("compose") / "secrets"
    subprocess.run(["sh", str(ROOT / "compose" / "secrets.sh"), str(secrets)], check=True)
    stack = Stack(secrets)
    try:
        stack.compose("up", "-d", "--no-build", "--wait")
        yield stack
    finally:
        stack.compose("down", "-v")


def until(true: Callable[[], Any], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "not within its time"
        time.sleep(0.2)


def test_demo_ends_well_though_inference_and_redis_are_killed(stack: Stack) -> None:
    recipe = yaml.safe_load((ROOT / "recipes" / "demo.yaml").read_text())
    recipe |= {"data": DATA, "problems_per_shard": 20, "selection": [{"policy": "shortest"}]}
    recipe["training"] |= {"max_steps": 20, "save_every_steps": 10}
    run_id = str(stack.gateway.submit(recipe, key="compose")["id"])

    def view() -> dict[str, Any]:
        try:
            return stack.gateway.run(run_id)
        except CliError:
            return {"state": "unknown", "stages": []}

    def sampled() -> int:
        return sum(one["shards_done"] for one in view()["stages"] if one["label"].startswith("sample"))

    until(lambda: sampled() >= 2, 120)
    stack.kill("inference-1")
    stack.kill("redis-1")
    until(lambda: view()["state"] in ("succeeded", "failed"), 400)
    run = view()
    assert run["state"] == "succeeded", run["error"]
    assert len(stack.gateway.report(run_id)["models"]) == 3
    states = stack.compose("ps", "--format", "{{.Service}} {{.State}}").split()
    assert set(states[1::2]) == {"running"}
