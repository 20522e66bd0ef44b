"""Gauges read from storage when Prometheus asks: they survive every restart, and their labels are few."""

from __future__ import annotations

import contextlib
import itertools
import shutil
import threading
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from overproof.gateway.adapters.run_list import newest_first
from overproof.gateway.trends import rounds
from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import OverproofError
from overproof.shared.files import Files
from overproof.shared.runs import Runs, RunState, RunStatus
from overproof.shared.tables import COMPARISON, rows_of

RUNS_LOOKED_AT = 200
"""The newest ones; an installation keeps thousands."""
MODELS_SHOWN = 16
CACHE_SECONDS = 15.0

FAMILIES: tuple[tuple[str, str, str], ...] = (
    (
        "overproof_eval_accuracy_ratio",
        "accuracy",
        "Accuracy on the test problems, of the latest run that compared models.",
    ),
    ("overproof_eval_accuracy_ci_low_ratio", "accuracy_low", "Lower end of the accuracy's interval."),
    ("overproof_eval_accuracy_ci_high_ratio", "accuracy_high", "Upper end of the accuracy's interval."),
    ("overproof_eval_tokens_mean", "tokens_mean", "Mean tokens per completion."),
    ("overproof_eval_truncated_ratio", "truncated_share", "Share of completions that were cut at the token limit."),
    ("overproof_eval_problems", "n", "Test problems behind these figures."),
)


class RunsCollector(Collector):
    """Runs by state, and the figures of the latest finished comparison by model."""

    def __init__(self, files: Files) -> None:
        self._files = files
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._metrics: list[Metric] = []

    def describe(self) -> Iterator[Metric]:
        """Nothing: registering reads no storage."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """The families; when storage does not answer, those of the last time."""
        with self._lock:
            if time.monotonic() - self._read_at > CACHE_SECONDS:
                self._read_at = time.monotonic()
                # `/readyz` reports a storage that is away; a record that another version wrote must not cost the scrape either
                with contextlib.suppress(OverproofError, ValueError):
                    self._metrics = self._read()
            return iter(list(self._metrics))

    def _read(self) -> list[Metric]:
        runs = Runs(self._files)
        states: Counter[RunState] = Counter()
        latest: list[dict[str, Any]] | None = None
        newest: RunStatus | None = None
        started: list[float] = []
        for record in itertools.islice(newest_first(runs), RUNS_LOOKED_AT):
            status = runs.status(record.run_id)
            states[status.state if status else RunState.QUEUED] += 1
            if status and status.state is RunState.RUNNING:
                started.append(status.created_at)
            if newest is None and status and any(one.notes.get("completions") for one in status.stages):
                newest = status
            if latest is None and status and status.state is RunState.SUCCEEDED and "comparison" in status.artifacts:
                latest = self._comparison(status.artifacts["comparison"])
        trends = rounds(newest, Artifacts(self._files)) if newest else ()
        return [_states(states), _oldest(started), *self._space(), *_figures(latest or []), *trends]

    def _space(self) -> Iterator[Metric]:
        """Of a storage that is a folder; a bucket has no end."""
        if not self._files.is_local:
            return
        with contextlib.suppress(OSError):  # nothing was ever written there, or it is gone: `/readyz` reports it
            usage = shutil.disk_usage(self._files.root)
            yield GaugeMetricFamily("overproof_storage_size_bytes", "Size of the storage's file system.", usage.total)
            yield GaugeMetricFamily("overproof_storage_free_bytes", "Free space of the storage.", usage.free)

    def _comparison(self, ref: str) -> list[dict[str, Any]]:
        artifacts = Artifacts(self._files)
        manifest = artifacts.manifest(ref)
        tables = [part for part in manifest.parts if part.rows is not None] if manifest else []
        rows = (row for part in tables for row in rows_of(artifacts.read_part(ref, part, COMPARISON)))
        return [row for row in rows if row["slice"] == "all"][:MODELS_SHOWN]


def _oldest(started: list[float]) -> Metric:
    text = "Seconds since the oldest run that is running was submitted; 0: none is."
    return GaugeMetricFamily(
        "overproof_runs_oldest_running_seconds", text, time.time() - min(started, default=time.time())
    )


def _states(states: Counter[RunState]) -> Metric:
    family = GaugeMetricFamily("overproof_runs", f"The newest {RUNS_LOOKED_AT} runs by state.", labels=["state"])
    for state in RunState:
        family.add_metric([str(state)], states[state])
    return family


def _figures(rows: list[dict[str, Any]]) -> Iterator[Metric]:
    for name, column, text in FAMILIES:
        family = GaugeMetricFamily(name, text, labels=["role", "model"])
        for row in rows:
            family.add_metric([str(row["role"]), str(row["model"])[:64]], float(row[column]))
        yield family
