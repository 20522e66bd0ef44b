"""A teacher on somebody else's server, asked from containers: compose/hosted.yaml. Needs a Docker engine; `make test-compose` runs it.

The server stands on the host, outside the inner network, as a hosted model would.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("openai", reason="the openai client is not installed")

from chat_server import KEY, ChatServer, served_by
from containers import COMMAND, ROOT, SERVICES, Stack, docker, removed_at_the_end, until

from overproof.inference.adapters.transformers_engine import TransformersEngine
from overproof.shared.recipe import EngineOptions

RECIPE: dict[str, Any] = {
    "name": "hosted",
    "goal": "sample",
    "data": {"train": {"generator": "demo-math", "split": "train", "n": 40, "seed": 11}},
    "models": {"teacher": "demo-teacher"},
    "engine": {"kind": "openai", "price_per_million_completion_tokens": 400, "budget_usd": 100},
    "sampling": {"max_samples": 2, "temperature": 0.9, "max_tokens": 120, "seed": 1},
    "problems_per_shard": 20,
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not COMMAND, reason="OVERPROOF_TEST_COMPOSE does not name a Compose command"),
]


@pytest.fixture(scope="module")
def server() -> Iterator[ChatServer]:
    """The demo's teacher, on every address of this machine."""
    options = EngineOptions(kind="transformers", dtype="float32")
    engine = TransformersEngine(ROOT / "demo" / "models" / "teacher", options)
    server = ChatServer(served_by(engine), models=({"id": "demo-teacher", "object": "model"},), address="0.0.0.0")  # noqa: S104  (containers reach it by the bridge)
    yield server
    server.close()
    engine.close()


@pytest.fixture(scope="module")
def stack(server: ChatServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    secrets = tmp_path_factory.mktemp("hosted") / "secrets"
    stack = Stack("overproof-hosted", ("base.yaml", "hosted.yaml"), secrets, 18_775)
    (secrets / "openai_api_key").write_text(KEY + "\n")
    stack.env["OVERPROOF_OPENAI_BASE_URL"] = "http://to-be-known.invalid/v1"
    with removed_at_the_end(stack):
        stack.compose("create", "--no-build", "gateway")  # makes the networks, which say where the host is
        host = docker("network", "inspect", "-f", "{{(index .IPAM.Config 0).Gateway}}", f"{stack.name}_outer")
        stack.env["OVERPROOF_OPENAI_BASE_URL"] = f"http://{host}:{server.port}/v1"
        stack.compose("up", "-d", "--no-build", "--wait", *SERVICES)
        yield stack


def test_teacher_outside_is_asked_with_the_key_and_nobody_else_gets_out(stack: Stack, server: ChatServer) -> None:
    run_id = str(stack.gateway.submit(RECIPE, key="hosted")["id"])
    until(lambda: stack.state(run_id) in ("succeeded", "failed"), 400, "the end of the run")
    run = stack.gateway.run(run_id)
    assert run["state"] == "succeeded", run["error"]
    assert len(server.asked) == 80
    assert server.keys == {f"Bearer {KEY}"}
    assert run["spent_usd"] > 0
    for service in SERVICES:
        networks = json.loads(
            docker("inspect", "-f", "{{json .NetworkSettings.Networks}}", f"{stack.name}-{service}-1")
        )
        assert (f"{stack.name}_outer" in networks) == (service in ("gateway", "inference")), service


def test_key_stands_in_no_log_and_in_no_environment(stack: Stack) -> None:
    assert KEY not in stack.compose("logs")
    for service in SERVICES:
        assert KEY not in docker("inspect", f"{stack.name}-{service}-1")


def test_missing_key_or_address_is_told_in_one_line(stack: Stack) -> None:
    lacks = ["-e", "OVERPROOF_OPENAI_API_KEY_FILE=/run/secrets/none"]
    done = subprocess.run(
        stack.command("run", "--rm", "--no-deps", "-T", *lacks, "inference"),
        env=stack.env, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if line.startswith("overproof.")]
    assert (done.returncode, len(said)) == (1, 1), done.stderr
    assert "The secret file /run/secrets/none cannot be read" in said[0]
    unset = {name: value for name, value in stack.env.items() if name != "OVERPROOF_OPENAI_BASE_URL"}
    done = subprocess.run(stack.command("config", "-q"), env=unset, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "OVERPROOF_OPENAI_BASE_URL is missing a value: set it to the address of the server" in done.stderr
