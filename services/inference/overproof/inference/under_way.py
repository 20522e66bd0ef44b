"""How many sequences an engine runs, and how many wait for a place, by role and stage of the shards that asked for them."""

from __future__ import annotations

import threading
from collections import Counter
from typing import NamedTuple

from overproof.inference import metrics


class Asker(NamedTuple):
    """On whose behalf: the labels of the gauges."""

    role: str
    stage: str


class UnderWay:
    """The sequences of all shards in one engine, in its two gauges.

    An engine tells when a completion is finished, not when it was begun: of more sequences than it has places, those that
    wait are spread evenly over the askers. (vLLM's own `vllm:num_requests_running` also knows those that wait for memory.)
    """

    def __init__(self, places: int) -> None:
        """`places`: sequences that the engine runs at once."""
        self._places = places
        self._lock = threading.Lock()
        self._sequences: Counter[Asker] = Counter()

    def change(self, asker: Asker, by: int) -> None:
        """So many more were handed to the engine; fewer, when they are finished or given up."""
        with self._lock:
            self._sequences[asker] += by
            total = self._sequences.total()
            share = min(1.0, self._places / total) if total else 0.0
            for one, number in self._sequences.items():
                running = round(number * share)
                metrics.RUNNING.labels(*one).set(running)
                metrics.WAITING.labels(*one).set(number - running)
