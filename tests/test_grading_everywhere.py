"""The same pairs judged in a thread, by the command, over HTTP by the service, and in prefork children of Celery: one verdict each."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from fastapi.testclient import TestClient

from overproof.cli.local.ports import free_ports
from overproof.gateway.app import create_app
from overproof.gateway.settings import GatewaySettings
from overproof.grading.grader import Grader

CASES = Path(__file__).parents[1] / "services" / "grading" / "tests" / "cases"
API_PAGE = Path(__file__).parents[1] / "docs" / "api.md"

PREFORK = """
import sys
from overproof.grading.app import build
from overproof.grading.settings import GradingSettings
settings = GradingSettings(storage=sys.argv[1], redis_url=sys.argv[2])
worker = build(settings)
worker.app.Worker(pool_cls="prefork", concurrency=2, queues="grading", without_gossip=True, without_mingle=True, quiet=True).start()
"""
"""The grading worker with daemonic child processes, as Celery has them by default."""
SLOW = [(f"\\int_0^{{{n}}} x dx", [f"{n * n}/2", "0"][n % 2]) for n in range(1, 9)]
"""Pairs that only the slow path can judge."""


class Question(NamedTuple):
    text: str
    gold: str
    is_solution: bool


def questions() -> list[Question]:
    answers = json.loads((CASES / "equivalence.json").read_text())[::2]
    solutions = json.loads((CASES / "extraction.json").read_text())
    found = [Question(case["answer"], case["gold"], False) for case in answers]
    found += [Question(case["text"], case["answer"] or "5", True) for case in solutions]
    found += [Question(answer, gold, False) for answer, gold in SLOW]
    return [one for one in found if one.text and one.gold]


@pytest.fixture(scope="module")
def in_threads() -> list[tuple[str, str]]:
    """Verdict and method of each question, from threads of this process."""
    with Grader(5.0) as grader, ThreadPoolExecutor(4) as pool:
        grades = pool.map(lambda one: grader.grade(one.text, [one.gold], is_solution=one.is_solution), questions())
        return [(str(grade.verdict), grade.method) for grade in grades]


def test_there_are_hundreds_with_all_sorts_of_verdicts(in_threads: list[tuple[str, str]]) -> None:
    verdicts, methods = zip(*in_threads, strict=True)
    assert len(verdicts) >= 300
    assert {"correct", "wrong", "no_answer"} <= set(verdicts)
    assert sum(method.endswith("/symbolic") for method in methods) >= len(SLOW)


def test_the_command_gives_the_same_verdicts(in_threads: list[tuple[str, str]]) -> None:
    lines = [json.dumps({"output" if one.is_solution else "pred": one.text, "gold": one.gold}) for one in questions()]
    command = [sys.executable, "-m", "overproof.cli", "grade", "--workers", "2", "--seconds-per-answer", "5"]
    done = subprocess.run(command, input="\n".join(lines).encode(), capture_output=True, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["verdict"], row["method"]) for row in rows] == in_threads


@pytest.mark.parametrize("pool", ["threads", "prefork"])
def test_the_service_gives_the_same_verdicts(
    pool: str, in_threads: list[tuple[str, str]], tmp_path: Path, redis_url: str
) -> None:
    storage = tmp_path / "storage"
    settings = GatewaySettings(storage=str(storage), redis_url=redis_url, grade_timeout_seconds=120)
    with (
        worker(pool, storage, redis_url) as pid,
        TestClient(create_app(settings), base_url="http://127.0.0.1") as client,
    ):
        judged = client.post("/v1/grade", json=body())
        assert judged.status_code == 200, judged.text
        assert depth_of_slow_path(pid) == {"threads": 1, "prefork": 2}[pool]
    assert [(one["verdict"], one["method"]) for one in judged.json()["data"]] == in_threads


REWARDS = """
print(reward(["so \\\\boxed{0.5}", "so \\\\boxed{2}", "x" * 300_000, "so 3"], answer=["1/2", "3", "1", "$t(0,4]$"]))
"""


def test_the_reward_function_of_the_documents_works(tmp_path: Path, redis_url: str) -> None:
    storage, (port,) = tmp_path / "storage", free_ports(1)
    (example,) = re.findall(r"```python\n(.*?)```", API_PAGE.read_text(), re.DOTALL)
    url = f"http://127.0.0.1:{port}"
    with worker("threads", storage, redis_url), gateway(port, storage, redis_url):
        command, environ = (
            [sys.executable, "-c", example + REWARDS],
            {"OVERPROOF_URL": url, "OVERPROOF_API_KEY": "none"},
        )
        done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[1.0, 0.0, 0.0, None]"


@contextmanager
def gateway(port: int, storage: Path, redis_url: str) -> Iterator[None]:
    environ = {"OVERPROOF_STORAGE": str(storage), "OVERPROOF_REDIS_URL": redis_url, "OVERPROOF_PORT": str(port)}
    process = subprocess.Popen([sys.executable, "-m", "overproof.gateway"], env=environ, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and not answers(port):
            time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(30)


def answers(port: int) -> bool:
    with suppress(httpx.HTTPError):
        return httpx.get(f"http://127.0.0.1:{port}/healthz").is_success
    return False


def body() -> dict[str, Any]:
    items = [{"text" if one.is_solution else "answer": one.text, "gold": one.gold} for one in questions()]
    return {"items": items, "options": {"seconds_per_answer": 5}}


@contextmanager
def worker(pool: str, storage: Path, redis_url: str) -> Iterator[int]:
    """A grading worker as a process of its own, with this pool; its process id."""
    command = {
        "threads": [sys.executable, "-m", "overproof.grading"],
        "prefork": [sys.executable, "-c", PREFORK, str(storage), redis_url],
    }[pool]
    environ = {"OVERPROOF_STORAGE": str(storage), "OVERPROOF_REDIS_URL": redis_url, "PATH": "/usr/bin:/bin"}
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def depth_of_slow_path(pid: int) -> int:
    """How many generations below a process its sympy process lives: 1 a child, 2 a child of a prefork child."""
    generation, depth = [pid], 0
    while generation:
        if any(b"symbolic_child" in Path(f"/proc/{one}/cmdline").read_bytes() for one in generation):
            return depth
        generation, depth = [child for one in generation for child in children_of(one)], depth + 1
    return -1


def children_of(pid: int) -> list[int]:
    return [
        int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
    ]
