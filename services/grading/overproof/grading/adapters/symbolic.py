"""The slow path: sympy and Math-Verify in child processes that are killed at their budget.

Children are started with `subprocess`, not `multiprocessing`: a daemonic Celery child may start the one but not the other.
They start when first needed, live for PAIRS_PER_CHILD pairs, know nothing of the environment but where packages lie, and die
with their parent. A child that hangs, runs out of memory or crashes costs the one pair that it was working on.
"""

from __future__ import annotations

import json
import os
import select
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

CHILD = Path(__file__).with_name("symbolic_child.py")

PAIRS_PER_CHILD = 2_000
"""A bound on whatever may leak: 2,000 different integrals took a child from 63 to 74 MB, with no growth after the first 500."""

START_SECONDS = 60.0
"""Starting took 0.5 to 1.5 s, more on a machine under load; it is not taken off any pair's budget."""


class Opinion(NamedTuple):
    """What the slow path says: `equal` None with `timed_out` False means that it cannot read one of the two."""

    equal: bool | None
    reason: str
    timed_out: bool = False


class _Lost(Exception):
    """The child is gone or late; the text says which."""


def _environment() -> dict[str, str]:
    """The hash seed, since sets that iterate alike make verdicts alike, and the packages of this process, wherever it found them."""
    return {"PYTHONHASHSEED": "0", "PYTHONPATH": os.pathsep.join(filter(os.path.isabs, sys.path))}


class _Child:
    """One child process and its pipes."""

    def __init__(self) -> None:
        self.pairs = 0
        self.process = subprocess.Popen(
            [sys.executable, "-s", "-P", str(CHILD)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            close_fds=True,
            cwd="/",
        )
        self.owner = os.getpid()
        try:
            self.receive(time.monotonic() + START_SECONDS)
        except _Lost:
            self.kill()
            raise

    def ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Hand a request over and wait at most `seconds` for the answer. Raises _Lost."""
        self.pairs += 1
        deadline = time.monotonic() + seconds
        body = json.dumps(request | {"cpu_seconds": seconds}).encode()
        try:
            os.write(self._pipe_in(), struct.pack(">I", len(body)) + body)
        except OSError:
            raise _Lost("the child process is gone") from None
        return self.receive(deadline)

    def receive(self, deadline: float) -> dict[str, Any]:
        (size,) = struct.unpack(">I", self._read(4, deadline))
        return dict(json.loads(self._read(size, deadline)))

    def _read(self, size: int, deadline: float) -> bytes:
        if self.process.stdout is None:
            raise _Lost("the child process has no output")
        number, data = self.process.stdout.fileno(), b""
        while len(data) < size:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([number], [], [], left)[0]:
                raise _Lost("the time was up")
            piece = os.read(number, size - len(data))
            if not piece:
                raise _Lost("the child process died (memory, CPU time or a crash)")
            data += piece
        return data

    def _pipe_in(self) -> int:
        if self.process.stdin is None:
            raise _Lost("the child process has no input")
        return self.process.stdin.fileno()

    @property
    def is_ours(self) -> bool:
        """Whether this process started it: after a fork both sides hold the pipes, and only one may use them."""
        return self.owner == os.getpid()

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def kill(self) -> None:
        self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(OSError):
                    pipe.close()
        self.process.wait()


class Symbolic:
    """A pool of children that grows to as many as threads ask at once. Safe to share between threads and across a fork."""

    def __init__(self, seconds_per_answer: float, pairs_per_child: int = PAIRS_PER_CHILD) -> None:
        self.seconds_per_answer = seconds_per_answer
        self.pairs_per_child = pairs_per_child
        self._idle: list[_Child] = []
        self._lock = threading.Lock()

    def compare(self, answer: str, gold: str, trees: list[Any] | None = None) -> Opinion:
        """Whether two answers (LaTeX, within the cascade's length limit) are equal; at most `seconds_per_answer` from hand-over."""
        request = {"do": "compare", "answer": answer, "gold": gold, "trees": trees}
        reply = self._ask(request, self.seconds_per_answer)
        if "lost" in reply:
            return Opinion(None, str(reply["lost"]), timed_out=True)
        return Opinion(reply["equal"], str(reply["reason"]))

    def can_read(self, gold: str) -> Opinion:
        """Whether Math-Verify can read a gold answer, within the same deadline: `equal` says it."""
        reply = self._ask({"do": "read", "gold": gold}, self.seconds_per_answer)
        if "lost" in reply:
            return Opinion(None, str(reply["lost"]), timed_out=True)
        return Opinion(bool(reply["readable"]), str(reply["reason"]))

    def close(self) -> None:
        """End the idle children."""
        with self._lock:
            children, self._idle = self._idle, []
        for child in children:
            if child.is_ours:
                child.kill()

    def pids(self) -> list[int]:
        """Process ids of the idle children."""
        with self._lock:
            return [child.process.pid for child in self._idle if child.is_ours]

    def _ask(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        try:
            child = self._take()
        except _Lost as lost:
            return {"lost": f"no child process could be started: {lost}"}
        try:
            reply = child.ask(request, seconds)
        except _Lost as lost:
            child.kill()
            return {"lost": str(lost)}
        except BaseException:
            child.kill()  # its next answer would be read as that of another pair
            raise
        if reply.get("last"):
            child.kill()
        else:
            self._give_back(child)
        return reply

    def _take(self) -> _Child:
        with self._lock:
            while self._idle:
                child = self._idle.pop()
                if child.is_ours and child.is_alive:
                    return child
                if child.is_ours:
                    child.kill()
        return _Child()

    def _give_back(self, child: _Child) -> None:
        if child.pairs >= self.pairs_per_child:
            child.kill()
            return
        with self._lock:
            self._idle.append(child)
