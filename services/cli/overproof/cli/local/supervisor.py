"""Keeps a set of programs running: starts them, restarts those that die, gives up on one that cannot live, ends them all."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from overproof.cli.errors import CliError
from overproof.cli.local.processes import GRACE_SECONDS, MARK, Reaper, sweep

FAST_DEATH_SECONDS = (
    20.0  # a service that lived longer than its imports and first connection was not broken from the start
)
MAX_FAST_DEATHS = 5
FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 8.0
TICK_SECONDS = 0.2
TAIL_LINES = 12
TAIL_BYTES = 8192
MAX_LOG_BYTES = 20_000_000  # an older log is set aside once, when the program starts


@dataclass(frozen=True)
class Program:
    """What to run. `env` is added to this process's own environment, `without` some of its variables."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    ends_last: bool = False
    """The others need it while they end."""
    without: tuple[str, ...] = ()


@dataclass
class Child:
    """A program and the process that runs it now."""

    program: Program
    log: Path
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float = 0.0
    """Not before; while it waits after a death."""
    fast_deaths: int = 0
    starts: int = 0


class GaveUp(CliError):
    """A program died again and again."""


class Supervisor:
    """Programs are started in their order. Call `tick` often, or `wait`, from one thread; `stop` at the end."""

    def __init__(self, programs: list[Program], logs: Path) -> None:
        self.mark = secrets.token_hex(16)
        self.children = [Child(program, logs / f"{program.name}.log") for program in programs]
        self._logs = logs
        self._reaper: Reaper | None = None

    def start(self) -> None:
        """Start everything; a mishap meanwhile is followed by `stop`."""
        self._logs.mkdir(parents=True, exist_ok=True)
        self._reaper = Reaper(self.mark)
        for child in self.children:
            self._spawn(child)

    def tick(self) -> None:
        """Restart what has died. Raises GaveUp, with the end of its log, for a program that keeps dying."""
        now = time.monotonic()
        for child in self.children:
            if child.process is None:
                if now >= child.start_at:
                    self._spawn(child)
            elif child.process.poll() is not None:
                self._bury(child, child.process, now)

    def wait(self, seconds: float) -> None:
        """Sleep, but go on watching."""
        end = time.monotonic() + seconds
        self.tick()
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(TICK_SECONDS, left))
            self.tick()

    def stop(self, grace_seconds: float = GRACE_SECONDS) -> None:
        """End all: SIGTERM to every service, SIGKILL after the grace to whatever is left, of theirs too."""
        end = time.monotonic() + grace_seconds
        for last in (False, True):
            group = [child for child in self.children if child.program.ends_last is last]
            for child in group:
                self._signal(child, signal.SIGTERM)
            while any(_runs(child) for child in group) and time.monotonic() < end:
                time.sleep(0.05)
        self.kill()

    def kill(self) -> None:
        """SIGKILL to all, now."""
        processes = [child.process for child in self.children if child.process]
        for child in self.children:
            self._signal(child, signal.SIGKILL)
        for process in processes:
            process.wait()
        groups = frozenset(process.pid for process in processes)
        sweep(self.mark, 0.0, groups)
        if self._reaper:
            for group in groups:
                self._reaper.remove(group)
            self._reaper.dismiss()
            self._reaper = None

    def processes(self) -> dict[str, int]:
        """Process id by program, of those that run now."""
        return {child.program.name: child.process.pid for child in self.children if child.process and _runs(child)}

    def _spawn(self, child: Child) -> None:
        child.starts += 1
        _set_aside(child.log)
        with child.log.open("ab") as log:
            log.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} {child.program.name} starts\n".encode())
            log.flush()
            inherited = {name: value for name, value in os.environ.items() if name not in child.program.without}
            child.process = subprocess.Popen(
                child.program.argv,
                env=inherited | dict(child.program.env) | {MARK: self._mark_of(child)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the supervisor only, which ends them in order
            )
        child.started_at = time.monotonic()
        if self._reaper:
            self._reaper.add(child.process.pid)

    def _bury(self, child: Child, process: subprocess.Popen[bytes], now: float) -> None:
        lived = now - child.started_at
        child.fast_deaths = child.fast_deaths + 1 if lived < FAST_DEATH_SECONDS else 0
        child.process = None
        sweep(self._mark_of(child), 0.0, frozenset({process.pid}))  # none of its own may work beside its successor
        if self._reaper:
            self._reaper.remove(process.pid)
        if child.fast_deaths >= MAX_FAST_DEATHS:
            raise GaveUp(
                f"{child.program.name} died {child.fast_deaths} times within {FAST_DEATH_SECONDS:.0f} s of its start "
                f"(last exit status {process.returncode}).",
                f"less {child.log}",
                tail(child.log),
            )
        child.start_at = now + backoff_seconds(child.fast_deaths)

    def _mark_of(self, child: Child) -> str:
        return f"{self.mark}.{child.program.name}.{child.starts}."

    def _signal(self, child: Child, number: signal.Signals) -> None:
        if child.process and _runs(child):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.process.pid, number)


def _runs(child: Child) -> bool:
    return child.process is not None and child.process.poll() is None


def backoff_seconds(fast_deaths: int) -> float:
    """At once after a long life, then longer and longer."""
    if fast_deaths == 0:
        return 0.0
    return min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** (fast_deaths - 1))


def tail(log: Path, n_lines: int = TAIL_LINES) -> tuple[str, ...]:
    """The last lines of a log."""
    with contextlib.suppress(OSError), log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        return tuple(file.read().decode(errors="replace").splitlines()[-n_lines:])
    return ()


def _set_aside(log: Path) -> None:
    with contextlib.suppress(OSError):
        if log.stat().st_size > MAX_LOG_BYTES:
            log.replace(log.with_suffix(".old.log"))
