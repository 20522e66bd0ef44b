"""The state folder of one installation on this machine: its lock, and where its gateway listens.

var/
    storage/   datasets, artifacts, runs: what was made
    redis/     of the embedded server
    logs/      one file per service
    reports/   pages of finished runs
    lock       held by the one supervisor; holds its process id
    local.json the gateway's URL while a supervisor runs
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from overproof.cli.errors import CliError

DEFAULT = Path("var")
DOWN_SECONDS = 20.0  # a supervisor takes about 10 s at most to end its services


class StateFolder:
    """Paths below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.storage = root / "storage"
        self.redis = root / "redis"
        self.logs = root / "logs"
        self.reports = root / "reports"
        self._lock = root / "lock"
        self._local = root / "local.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be its only supervisor. Raises CliError when another is, or when the folder cannot be written."""
        with self._lock_file() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CliError(
                    f"Another supervisor (process {self.owner() or '?'}) already runs the services of {self.root}/.",
                    "Watch it with `overproof status`, or end it with `overproof local down`.",
                ) from None
            os.ftruncate(file, 0)
            os.pwrite(file, f"{os.getpid()}\n".encode(), 0)
            try:
                yield
            finally:
                self._local.unlink(missing_ok=True)
                os.ftruncate(file, 0)

    @contextlib.contextmanager
    def _lock_file(self) -> Iterator[int]:
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            file = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise CliError(
                f"The state folder {self.root} cannot be written: {error.strerror}.", "Name another with --state."
            ) from error
        try:
            yield file
        finally:
            os.close(file)

    def owner(self) -> int | None:
        """Process id of the supervisor that holds the lock; None when nobody does."""
        with contextlib.suppress(OSError, ValueError), self._lock.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return int(file.read())
        return None

    def announce(self, url: str) -> None:
        """Let other commands in the same folder find the gateway."""
        self._local.write_text(json.dumps({"url": url, "pid": os.getpid()}) + "\n", encoding="utf-8")

    def url(self) -> str | None:
        """The gateway of the supervisor that runs now."""
        with contextlib.suppress(OSError, ValueError):
            value: Any = json.loads(self._local.read_text(encoding="utf-8"))
            if isinstance(value, dict) and self.owner() is not None:
                return str(value["url"])
        return None

    def end_owner(self, seconds: float = DOWN_SECONDS) -> bool:
        """Ask the supervisor to end, and wait. False when none runs; raises CliError when it does not end."""
        pid = self.owner()
        if pid is None:
            return False
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + seconds
        while self.owner() == pid:
            if time.monotonic() > end:
                raise CliError(f"The supervisor (process {pid}) has not ended after {seconds:.0f} s.", f"kill -9 {pid}")
            time.sleep(0.1)
        return True

    def set_aside(self) -> Path | None:
        """Move what was made out of the way, losing nothing; returns where to, or None when there was nothing."""
        if not self.storage.exists():
            return None
        aside = self.root / "aside" / time.strftime("%Y%m%d-%H%M%S")
        aside.mkdir(parents=True)
        for folder in (self.storage, self.redis):
            if folder.exists():
                folder.rename(aside / folder.name)
        return aside
