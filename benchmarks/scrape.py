"""What a worker's `/metrics` says while it works."""

from __future__ import annotations

import contextlib
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client.parser import text_string_to_metric_families

SECONDS_BETWEEN = 1.0
GAUGES = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "overproof_sequences_running",
    "overproof_sequences_waiting",
)


class Scraper:
    """Reads one endpoint."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}/metrics"

    def names(self) -> list[str]:
        """All series of vLLM and of ours."""
        found = {metric for metric, _ in self._samples()}
        ours = (name for name in found if name.startswith(("vllm:", "overproof_")))
        return sorted(name for name in ours if not name.endswith("_created"))

    @contextmanager
    def watching(self) -> Iterator[dict[str, float]]:
        """The highest value of each of GAUGES, over all labels, seen once a second."""
        highest: dict[str, float] = {}
        done = threading.Event()
        thread = threading.Thread(target=self._watch, args=(highest, done), daemon=True)
        thread.start()
        try:
            yield highest
        finally:
            done.set()
            thread.join()

    def _watch(self, highest: dict[str, float], done: threading.Event) -> None:
        while not done.wait(SECONDS_BETWEEN):
            for name, value in self._samples():
                if name in GAUGES:
                    highest[name] = max(value, highest.get(name, 0.0))

    def _samples(self) -> list[tuple[str, float]]:
        with contextlib.suppress(OSError), urllib.request.urlopen(self.url, timeout=5) as answer:  # noqa: S310  (http:)
            text = answer.read().decode()
            return [(one.name, one.value) for family in text_string_to_metric_families(text) for one in family.samples]
        return []
