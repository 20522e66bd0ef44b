"""How long a model was at work, when several shards have completions in flight on it at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class BusyClock:
    """Divides each second in which an engine is at work among the shards that wait for it, so that all shares add up to wall time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[Turn] = set()
        self._looked = time.monotonic()

    def enter(self, turn: Turn) -> None:
        """This shard waits for the engine from now on."""
        with self._lock:
            self._divide()
            self._waiting.add(turn)

    def leave(self, turn: Turn) -> None:
        """It does something else."""
        with self._lock:
            self._divide()
            self._waiting.discard(turn)

    def _divide(self) -> None:
        now = time.monotonic()
        for turn in self._waiting:
            turn.seconds += (now - self._looked) / len(self._waiting)
        self._looked = now


class Turn:
    """One shard's share of an engine's seconds."""

    def __init__(self, clock: BusyClock) -> None:
        self.seconds = 0.0
        self._clock = clock

    def working(self, items: Iterable[T]) -> Iterator[T]:
        """The same items, out of the engine."""
        self._clock.enter(self)
        try:
            for item in items:
                self._clock.leave(self)
                yield item
                self._clock.enter(self)
        finally:
            self._clock.leave(self)

    def resting(self, items: Iterable[T]) -> Iterator[T]:
        """The same items, out of something that the engine waits for."""
        self._clock.leave(self)
        for item in items:
            self._clock.enter(self)
            yield item
            self._clock.leave(self)
        self._clock.enter(self)
