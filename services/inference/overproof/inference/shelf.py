"""The one loaded model of a worker: kept between shards of the same model, closed when another one is asked for, or when it is idle
and keeps a GPU's memory from others."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from typing import NamedTuple

from overproof.inference.busy import BusyClock
from overproof.inference.ports import Engine
from overproof.inference.under_way import UnderWay
from overproof.shared.errors import EngineUnavailable

log = logging.getLogger(__name__)

POLL_SECONDS = 0.5
"""How often a shard that waits for the engine looks whether it was stopped."""
PATIENCE_SECONDS = 600.0
"""So long the loaded model's further shards go before a waiting shard of another one: an exchange costs a minute or two."""


class Lent(NamedTuple):
    """An engine in use, and the seconds that this user waited for it to load (0: it was there)."""

    engine: Engine
    load_seconds: float
    clock: BusyClock
    """Shared by all shards on this engine."""
    under_way: UnderWay
    """Likewise."""


class Waiting(NamedTuple):
    """A shard that has no engine yet."""

    since: float
    key: Hashable

    def is_before(self, other: Waiting) -> bool:
        """Whether this one, for another model, came first."""
        return self.key != other.key and self.since < other.since


class Shelf:
    """Lends the engine to any number of shards of one model at a time, and each model in its turn."""

    def __init__(self, idle_seconds: float = 0.0) -> None:
        """`idle_seconds`: an engine that holds a GPU is closed when nobody has used it for so long; 0: it is kept."""
        self._idle_seconds = idle_seconds
        self._idle: threading.Timer | None = None
        self._lock = threading.Lock()
        self._key: Hashable = None
        self._engine: Engine | None = None
        self._users = 0
        self._waiting: list[Waiting] = []
        self._clock = BusyClock()
        self._under_way = UnderWay(1)

    @contextlib.contextmanager
    def lend(
        self,
        key: Hashable,
        load: Callable[[], Engine],
        check: Callable[[], None],
        make_room: Callable[[], None] = lambda: None,
    ) -> Iterator[Lent]:
        """The engine of `key`, loaded first if need be. Waits, calling `check`, while shards of another model run.

        `make_room` is called before `load`, when no engine is loaded any more; its time is not counted as loading.
        An engine that raised EngineUnavailable is not lent again.
        """
        lent = self._take(key, load, check, make_room)
        try:
            yield lent
        except EngineUnavailable:
            self._key = None
            raise
        finally:
            with self._lock:
                self._users -= 1
                self._watch_idle()

    def close(self) -> None:
        """Close the engine, if any."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        self._stop_watching()
        engine, self._engine, self._key = self._engine, None, None
        if engine is not None:
            engine.close()

    def _watch_idle(self) -> None:
        if self._idle_seconds and not self._users and self._engine is not None and self._engine.holds_gpu:
            timer = threading.Timer(self._idle_seconds, lambda: self._close_idle(timer))
            timer.name, timer.daemon = "idle", True
            self._idle = timer
            timer.start()

    def _stop_watching(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None

    def _close_idle(self, timer: threading.Timer) -> None:
        """Unless a shard came: it may have been faster than a timer that had already rung."""
        with self._lock:
            if self._idle is timer:
                log.info("the model was idle for %g s: its GPU's memory is given back", self._idle_seconds)
                self._close()

    def _take(
        self, key: Hashable, load: Callable[[], Engine], check: Callable[[], None], make_room: Callable[[], None]
    ) -> Lent:
        mine = Waiting(time.monotonic(), key)
        self._waiting.append(mine)
        try:
            while True:
                check()
                if self._lock.acquire(timeout=POLL_SECONDS):
                    try:
                        if self._is_next(mine):
                            return self._ready(key, load, make_room)
                    finally:
                        self._lock.release()
                    time.sleep(POLL_SECONDS)
        finally:
            self._waiting.remove(mine)

    def _is_next(self, mine: Waiting) -> bool:
        """A shard of the loaded model, unless one of another has waited too long; of any model, when the engine is idle."""
        longest = max((time.monotonic() - one.since for one in list(self._waiting) if one.is_before(mine)), default=0.0)
        if self._engine is not None and self._key == mine.key:
            return longest <= PATIENCE_SECONDS
        return self._users == 0 and not longest

    def _ready(self, key: Hashable, load: Callable[[], Engine], make_room: Callable[[], None]) -> Lent:
        self._stop_watching()
        if self._engine is None or self._key != key:
            self._close()
            make_room()
            started = time.monotonic()
            self._engine, self._key = load(), key
            self._under_way = UnderWay(self._engine.places)
            self._users += 1
            return Lent(self._engine, time.monotonic() - started, self._clock, self._under_way)
        self._users += 1
        return Lent(self._engine, 0.0, self._clock, self._under_way)
