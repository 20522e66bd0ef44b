"""Ending processes so that none survives, by a mark that every descendant inherits.

A service may start process groups of its own (a training launcher, a grader's child), so ending its group is not enough:
each process of one supervisor carries a random mark in its environment, and what carries it is ended. Needs /proc; without
it (macOS) only the services' own groups are ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

MARK = "OVERPROOF_LOCAL_MARK"
GRACE_SECONDS = 8.0
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


def sweep(mark: str, grace_seconds: float) -> None:
    """SIGTERM to all that carry the mark, SIGKILL to those that are still there after the grace."""
    send(marked(mark), signal.SIGTERM)
    end = time.monotonic() + grace_seconds
    while marked(mark) and time.monotonic() < end:
        time.sleep(0.1)
    while left := marked(mark):  # again, for what they started meanwhile
        send(left, signal.SIGKILL)
        time.sleep(0.05)


def start_reaper(mark: str) -> subprocess.Popen[bytes]:
    """A small process that sweeps when this one ends, however it ends: it waits for its stdin to close."""
    return subprocess.Popen(
        [sys.executable, "-m", "overproof.cli.local.processes", mark],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


def dismiss(reaper: subprocess.Popen[bytes]) -> None:
    """Everything was ended in good order; let the reaper see for itself."""
    if reaper.stdin:
        reaper.stdin.close()
    with contextlib.suppress(subprocess.TimeoutExpired):
        reaper.wait(GRACE_SECONDS + 2)


def main(mark: str) -> None:
    """The reaper: blocks until its parent is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.stdin.buffer.read()
    sweep(mark, GRACE_SECONDS)


if __name__ == "__main__":
    main(sys.argv[1])
