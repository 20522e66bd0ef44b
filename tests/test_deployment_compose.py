"""The demo, shortened, through containers and their published port, under SIGKILL and SIGTERM, watched by a real Prometheus. Needs a Docker engine.

`make test-compose` builds the images first. With images that exist: OVERPROOF_TEST_COMPOSE="docker compose" pytest tests/test_deployment_compose.py
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from containers import COMMAND, ROOT, SERVICES, Stack, docker, removed_at_the_end, until

PROJECT = "overproof-test"
PORT = 18_765
DATA = {
    "train": {"generator": "demo-math", "split": "train", "n": 480, "seed": 21},
    "test": {"generator": "demo-math", "split": "test", "n": 60, "seed": 22},
}
SILENT = r"^vllm:|^overproof_redis_up$|^overproof_training_(mfu|memory_bytes)$"
"""Series that a CPU stack does not have."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not COMMAND, reason="OVERPROOF_TEST_COMPOSE does not name a Compose command"),
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    files = ("base.yaml", "observability.yaml")
    with removed_at_the_end(Stack(PROJECT, files, tmp_path_factory.mktemp("compose") / "secrets", PORT)) as stack:
        stack.compose("up", "-d", "--no-build", "--wait", "prometheus", *SERVICES)
        yield stack


@pytest.fixture(scope="module")
def run(stack: Stack) -> dict[str, Any]:
    """A run during which an inference worker and Redis were killed."""
    recipe = yaml.safe_load((ROOT / "recipes" / "demo.yaml").read_text())
    recipe |= {"data": DATA, "problems_per_shard": 20, "selection": [{"policy": "shortest"}]}
    recipe["training"] |= {"max_steps": 20, "save_every_steps": 10}
    run_id = str(stack.gateway.submit(recipe, key="compose")["id"])

    def sampled() -> int:
        stages = stack.gateway.run(run_id)["stages"]
        return sum(one["shards_done"] for one in stages if one["label"].startswith("sample"))

    until(lambda: sampled() >= 2, 300, "the first shards")
    stack.kill("inference-1")
    stack.kill("redis-1")
    until(lambda: stack.state(run_id) in ("succeeded", "failed"), 900, "the end of the run")
    return stack.gateway.run(run_id)


def test_demo_ends_well_though_inference_and_redis_are_killed(stack: Stack, run: dict[str, Any]) -> None:
    assert run["state"] == "succeeded", run["error"]
    assert len(stack.gateway.report(run["id"])["models"]) == 3
    states = stack.compose("ps", "--format", "{{.Service}} {{.State}}").split()
    assert set(states[1::2]) == {"running"}


def test_prometheus_reaches_every_service(stack: Stack, run: dict[str, Any]) -> None:
    def healthy() -> bool:
        targets = [(one["health"], one["scrapeUrl"]) for one in stack.prometheus("targets")["activeTargets"]]
        return len(targets) == len(SERVICES) + 1 and {health for health, _ in targets} == {"up"}  # inference twice

    until(healthy, 90, "every target")
    for expression, at_least in (
        ("overproof_eval_accuracy_ratio", 3),
        ('overproof_runs{state="succeeded"} >= 1', 1),
        ("count by (service) (overproof_worker_heartbeat_timestamp_seconds)", 5),
        ('sum by (stage) (overproof_shards_total{outcome="published"})', 5),
    ):
        until(lambda e=expression, n=at_least: len(stack.prometheus("query", query=e)["result"]) >= n, 60, expression)


def test_every_expression_of_dashboards_and_alerts_knows_its_series(stack: Stack, run: dict[str, Any]) -> None:
    dashboards = [json.loads(path.read_text()) for path in (ROOT / "compose" / "grafana" / "dashboards").glob("*.json")]
    targets = [one for board in dashboards for panel in board["panels"] for one in panel.get("targets", [])]
    groups = stack.prometheus("rules")["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    until(
        lambda: all(rule["health"] == "ok" for group in stack.prometheus("rules")["groups"] for rule in group["rules"]),
        60,
    )
    known = set(stack.prometheus("label/__name__/values"))
    for service in SERVICES:  # a counter with labels has no series before it first counts, but a type
        known |= set(re.findall(r"^# TYPE (\S+)", stack.metrics(service), re.MULTILINE))
    for expression in (*(one["expr"] for one in targets), *(rule["query"] for rule in rules)):
        stack.prometheus("query", query=expression.replace("$__rate_interval", "5m"))
        asked = set(re.findall(r"\b(?:overproof|http|vllm)[_:][a-zA-Z0-9_:]+", re.sub(r'"[^"]*"', "", expression)))
        assert not {name for name in asked - known if not re.search(SILENT, name)}, expression


def test_promtool_finds_nothing_in_what_the_services_expose(stack: Stack, run: dict[str, Any]) -> None:
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed")
    for service in SERVICES:
        found = subprocess.run(
            ["promtool", "check", "metrics"], input=stack.metrics(service), capture_output=True, text=True, check=False
        )
        assert (found.returncode, found.stdout + found.stderr) == (0, ""), service


def test_every_service_logs_json_with_the_ids_of_run_and_request(stack: Stack, run: dict[str, Any]) -> None:
    for service in SERVICES:
        text = stack.compose("logs", "--no-log-prefix", "--no-color", service)
        lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
        assert lines, service
        assert any(line.get("request_id") for line in lines), service
        assert service == "gateway" or any(line.get("run_id") == run["id"] for line in lines)


def test_trends_survive_a_restart_of_everything(stack: Stack, run: dict[str, Any]) -> None:
    before = sorted(
        line
        for line in stack.metrics("gateway").splitlines()
        if line.startswith(("overproof_eval_", "overproof_round_"))
    )
    stack.compose("restart", "gateway", "redis")
    stack.compose("up", "-d", "--no-build", "--wait", "gateway")
    after = sorted(
        line
        for line in stack.metrics("gateway").splitlines()
        if line.startswith(("overproof_eval_", "overproof_round_"))
    )
    assert len(before) > 10
    assert after == before


def test_stopped_worker_hands_its_shard_back_at_once(stack: Stack, run: dict[str, Any]) -> None:
    """`docker stop` is SIGTERM, as when a pod is taken away. A lease that was not handed back would outlive its owner by 20 s."""
    recipe = yaml.safe_load((ROOT / "recipes" / "demo.yaml").read_text())
    recipe |= {"goal": "sample", "data": {"train": {**DATA["train"], "seed": 23}}, "problems_per_shard": 160}
    name = f"{PROJECT}-inference-2"
    hostname = docker("inspect", "-f", "{{.Config.Hostname}}", name)

    def leased() -> bool:
        return any(hostname in owner for owner in stack.lease_owners())

    run_id = str(stack.gateway.submit(recipe, key="stopped")["id"])
    until(leased, 120, "a shard of the worker to be stopped")
    docker("stop", "-t", "60", name)
    assert not leased()
    assert docker("inspect", "-f", "{{.State.ExitCode}}", name) == "0"
    until(lambda: stack.state(run_id) in ("succeeded", "failed"), 400, "the end of the run")
    assert stack.gateway.run(run_id)["state"] == "succeeded"
    docker("start", name)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["-e", "OVERPROOF_REDIS_PASSWORD_FILE=/run/secrets/none"], "The secret file /run/secrets/none cannot be read"),
        (["-e", "OVERPROOF_REDIS_PASSWORD_FILE=/etc/hostname"], "refuses the password"),
        (["-e", "OVERPROOF_REQUIRE_GPU=1"], "This container has no GPU. Install the NVIDIA Container Toolkit"),
        (["-e", "OVERPROOF_STORAGE=/proc/storage"], "The storage /proc/storage cannot be written"),
        (["-e", "OVERPROOF_LEASE_SECONDS=-1"], "A setting is out of range (OVERPROOF_LEASE_SECONDS"),
        (["-e", "OTEL_EXPORTER_OTLP_ENDPOINT=http://x:4317", "-e", "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"], "Set it to http/protobuf"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("service", ["gateway", "grading"])
def test_container_that_lacks_something_says_it_in_one_line_and_ends(
    stack: Stack, service: str, options: list[str], says: str
) -> None:
    done = subprocess.run(
        stack.command("run", "--rm", "--no-deps", "-T", *options, service),
        env=stack.env, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if line.startswith("overproof.")]
    assert done.returncode == 1, done.stderr
    assert len(said) == 1, done.stderr
    assert says in said[0]


def test_redis_without_its_secret_or_its_folder_says_so(stack: Stack, tmp_path: Path) -> None:
    for name in ("api_keys", "grafana_password", "redis_password"):
        (tmp_path / name).write_text("")
    for change, says in (
        ({"OVERPROOF_SECRETS": str(tmp_path)}, "the secret redis_password is empty; run make secrets"),
        ({"REDIS_USER": "12345:12345"}, "/data cannot be written by user 12345; chown the volume"),
    ):
        done = subprocess.run(
            stack.command("run", "--rm", "--no-deps", "-T", "redis"),
            env=stack.env | change, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 1
        assert says in done.stderr


def test_folder_that_the_services_cannot_write_is_named(stack: Stack, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    done = subprocess.run(
        stack.command("run", "--rm", "--no-deps", "-T", "grading"),
        env=stack.env | {"OVERPROOF_STORE": str(tmp_path)}, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    said = [line for line in done.stderr.splitlines() if line.startswith("overproof.")]
    assert (done.returncode, len(said)) == (1, 1), done.stderr
    assert "The storage /storage cannot be written" in said[0]
    assert "Let user 10001 write there" in said[0]


def test_port_that_is_taken_is_named_by_the_engine(stack: Stack) -> None:
    again = subprocess.run(
        [*COMMAND, "-p", f"{PROJECT}-2", "-f", str(ROOT / "compose" / "base.yaml"), "up", "-d", "--no-build", "--no-deps", "gateway"],
        env=stack.env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    subprocess.run(
        [*COMMAND, "-p", f"{PROJECT}-2", "-f", str(ROOT / "compose" / "base.yaml"), "down", "-v"],
        env=stack.env,
        check=False,
    )
    assert again.returncode != 0
    assert str(PORT) in again.stderr
