"""Ending processes so that none survives, by a mark that every descendant inherits.

A service may start process groups of its own (a training launcher, a grader's child), so ending its group is not enough:
each process of one supervisor carries a random mark in its environment, and what carries it is ended. A program that writes
its title over its environment loses the mark, so the groups of the services themselves are remembered too.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

MARK = "OVERPROOF_LOCAL_MARK"
GRACE_SECONDS = 8.0
KILL_SECONDS = 5.0  # a group may consist of zombies that nobody collects: they are dead enough
PROC = Path("/proc")


def marked(mark: str) -> list[int]:
    """Ids of the living processes whose mark begins so."""
    needle = f"{MARK}={mark}".encode()
    others = (pid for pid in _pids() if pid != os.getpid())
    return [pid for pid in others if any(entry.startswith(needle) for entry in _environment(pid))]


def _pids() -> list[int]:
    with contextlib.suppress(OSError):
        return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdecimal()]
    return []


def _environment(pid: int) -> list[bytes]:
    """Empty for zombies, and for processes of others."""
    with contextlib.suppress(OSError):
        return (PROC / str(pid) / "environ").read_bytes().split(b"\0")
    return []


def send(pids: list[int], number: signal.Signals) -> None:
    """Signal each; one that is gone already is no matter."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def sweep(mark: str, grace_seconds: float, groups: frozenset[int] = frozenset()) -> None:
    """SIGTERM to all that carry the mark or lead one of the groups, SIGKILL to those that are left after the grace."""
    end = time.monotonic() + grace_seconds
    number = signal.SIGTERM if grace_seconds else signal.SIGKILL
    while time.monotonic() < end + KILL_SECONDS:
        _signal_groups(groups, number)
        send(marked(mark), number)
        if _wait_gone(mark, groups, end):
            return
        number = signal.SIGKILL


def _wait_gone(mark: str, groups: frozenset[int], end: float) -> bool:
    """Whether all were gone before `end`; looks at least once, a moment after the signal."""
    while True:
        if not marked(mark) and not any(_is_group(group) for group in groups):
            return True
        time.sleep(0.05)
        if time.monotonic() >= end:
            return False


def _is_group(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _signal_groups(groups: frozenset[int], number: signal.Signals) -> None:
    for group in groups:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(group, number)


class Reaper:
    """A small process that sweeps when this one ends, however it ends: its stdin closes, and it knows the groups."""

    def __init__(self, mark: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "overproof.cli.local.processes", mark],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def add(self, group: int) -> None:
        """A service was started."""
        self._tell(f"+{group}")

    def remove(self, group: int) -> None:
        """It is dead and buried: its number may soon be somebody else's."""
        self._tell(f"-{group}")

    def dismiss(self) -> None:
        """Everything was ended in good order; let it see for itself."""
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_SECONDS + 2)

    def _tell(self, line: str) -> None:
        if self._process.stdin:
            with contextlib.suppress(OSError):  # a reaper that was killed is missed only in the worst case
                self._process.stdin.write(f"{line}\n".encode())
                self._process.stdin.flush()


def reap(mark: str, lines: Iterable[str]) -> None:
    """The reaper: reads `+group` and `-group` until its parent is gone, then ends what is left."""
    groups: set[int] = set()
    for line in lines:
        change = groups.add if line[0] == "+" else groups.discard
        change(int(line[1:]))
    sweep(mark, GRACE_SECONDS, frozenset(groups))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    reap(sys.argv[1], sys.stdin)
