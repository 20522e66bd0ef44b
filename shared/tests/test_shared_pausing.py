"""A worker that has handed a shard back asks for no message for a while: through a real queue, with workers as they run."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from overproof.shared.messages import ShardRequest
from overproof.shared.pausing import Pause
from overproof.shared.settings import Settings
from overproof.shared.specs import CheckGoldSpec
from overproof.shared.topology import Service, Stage, TaskName
from overproof.shared.worker import Worker

SPEC = CheckGoldSpec(problems="prepare/" + "0" * 32)
PAUSE_SECONDS = 6.0
PROGRAM = """
import sys, time
from overproof.shared import pausing
from overproof.shared.errors import HandedBack
from overproof.shared.settings import Settings
from overproof.shared.specs import CheckGoldSpec
from overproof.shared.tables import GOLD_CHECKS, table_of
from overproof.shared.topology import Service, TaskName
from overproof.shared.worker import Worker

pausing.PAUSE_SECONDS = float(sys.argv[2])
worker = Worker(Service.GRADING, Settings(concurrency=2))

def make(work):
    with open(sys.argv[1], "a") as file:
        file.write(f"{time.time()} {work.shard}\\n")
    if len(sys.argv) > 3:
        raise HandedBack("no room")
    work.write(GOLD_CHECKS, [table_of([], GOLD_CHECKS)])

worker.task(TaskName.CHECK_GOLD, CheckGoldSpec)(make)
worker.run()
"""


class Fleet:
    """Workers on one queue; each leaves a line per shard that it began."""

    def __init__(self, folder: Path, settings: Settings) -> None:
        self.folder = folder
        self.own = Worker(Service.GRADING, settings)
        self.own.artifacts.declare(SPEC)
        self._environ = {"OVERPROOF_STORAGE": settings.storage, "OVERPROOF_REDIS_URL": settings.redis_url}
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, *more: str) -> None:
        command = [sys.executable, "-c", PROGRAM, str(self.folder / name), str(PAUSE_SECONDS), *more]
        self._processes.append(subprocess.Popen(command, env=os.environ | self._environ))

    def send(self, *shards: int) -> None:
        for shard in shards:
            request = ShardRequest(stage=Stage.CHECK_GOLD, key=SPEC.key, shard=shard, run_id="r")
            self.own.app.send_task(TaskName.CHECK_GOLD, kwargs=request.model_dump(mode="json"))

    def send_missing(self, n: int, seconds: float) -> bool:
        """As the pipeline does, then wait. Whether none of `n` shards was missing."""
        missing = set(range(n)) - self.own.artifacts.listing(SPEC.ref).done
        self.send(*missing)
        time.sleep(seconds if missing else 0)
        return not missing

    def began(self, name: str) -> list[tuple[float, int]]:
        """When, and which shard."""
        path = self.folder / name
        lines = path.read_text().splitlines() if path.exists() else []
        return [(float(line.split()[0]), int(line.split()[1])) for line in lines]

    def end(self) -> None:
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.wait(timeout=30)


@pytest.fixture
def fleet(tmp_path: Path, storage: Path, redis_url: str) -> Iterator[Fleet]:
    fleet = Fleet(tmp_path, Settings(storage=str(storage), redis_url=redis_url))
    yield fleet
    fleet.end()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_worker_that_pauses_leaves_messages_to_others_and_takes_them_again_afterwards(fleet: Fleet) -> None:
    fleet.start("full", "hands back")
    fleet.send(0)
    until(lambda: len(fleet.began("full")) == 1)
    time.sleep(2.0)  # Redis answers its last request within a second
    fleet.send(1)
    time.sleep(1.0)
    assert fleet.own.leases.waiting("grading") == 1
    until(lambda: len(fleet.began("full")) == 2)
    (first, _), (second, shard) = fleet.began("full")
    assert shard == 1
    assert PAUSE_SECONDS <= second - first < PAUSE_SECONDS + 5
    fleet.start("empty")
    until(lambda: fleet.send_missing(3, 1.0))
    assert {shard for _, shard in fleet.began("empty")} == {0, 1, 2}


def test_pause_ends_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overproof.shared.pausing.PAUSE_SECONDS", 0.05)
    pause = Pause()
    assert not pause.is_on()
    pause.begin()
    assert pause.is_on()
    time.sleep(0.1)
    assert not pause.is_on()
