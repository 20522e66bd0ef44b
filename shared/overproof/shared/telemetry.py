"""Logs and metrics that hang on every process alike. Metric labels are bounded: never a run id, never a key."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from prometheus_client import Counter, Gauge, Histogram, Info, start_http_server

from overproof.shared import __version__, tracing
from overproof.shared.settings import Settings
from overproof.shared.topology import Service

SHARDS = Counter("overproof_shards_total", "Shards by outcome.", ["stage", "outcome"])
SHARD_SECONDS = Histogram(
    "overproof_shard_seconds",
    "Wall-clock seconds that a shard took, from claim to publication.",
    ["stage"],
    buckets=(0.01, 0.05, 0.1, 0.5, 1, 5, 15, 60, 180, 600, 3600),
)
DUPLICATE_PUBLISHES = Counter(
    "overproof_duplicate_publishes_total", "Shards that another worker had published first.", ["stage"]
)
LEASES_LOST = Counter("overproof_leases_lost_total", "Leases that ended while the worker was still at work.", ["stage"])
CLAIMS = Counter(
    "overproof_claims_total",
    "Claims of shards: ok (an attempt began), busy (another worker has it), halted (nobody wants it), poison (begun too often).",
    ["stage", "answer"],
)
HEARTBEAT = Gauge(
    "overproof_worker_heartbeat_timestamp_seconds", "Unix time of the last sign of life of this process.", ["service"]
)
BUILD = Info("overproof_build", "Version of the running code.")


_bound: ContextVar[dict[str, Any]] = ContextVar("overproof_log_fields", default={})  # noqa: B039  (never changed in place)


@contextlib.contextmanager
def log_fields(**fields: Any) -> Iterator[None]:
    """Every line that this thread or request logs inside the block carries these fields, as far as JsonLines knows them."""
    token = _bound.set({**_bound.get(), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


@contextlib.contextmanager
def following(task: str, origin: Mapping[str, str], **fields: Any) -> Iterator[None]:
    """Around the work on a message: its span continues the sender's (`origin`: what the message took along), its lines carry
    the request's id and these fields."""
    with (
        tracing.on_behalf_of(origin.get("request_id", "")),
        tracing.span(task, "CONSUMER", origin, messaging__system="celery", **fields),
        log_fields(**fields),
    ):
        yield


def beat(service: Service, heartbeat_file: Path | None) -> None:
    """A sign of life: the gauge, and the file whose age a container's probe looks at."""
    HEARTBEAT.labels(service).set_to_current_time()
    if heartbeat_file:
        with contextlib.suppress(OSError):  # a full disk is no reason to stop working
            heartbeat_file.touch()


class JsonLines(logging.Formatter):
    """One JSON object per line; `extra={"run_id": ..}`, `log_fields(run_id=..)` and the like become fields."""

    FIELDS = ("run_id", "stage", "key", "shard", "request_id", "trace_id")

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)),
            "service": self._service,
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        origin = {"request_id": tracing.request_id(), "trace_id": tracing.trace_id()}
        known = {**origin, **_bound.get(), **vars(record)}
        line |= {name: known[name] for name in self.FIELDS if known.get(name, "") != ""}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def configure(settings: Settings, service: Service) -> None:
    """Log to stderr, serve `/metrics` when the settings give a port, send spans when a collector is named. Call once, from `app.py`.

    Raises TracingUnavailable.
    """
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter(f"%(asctime)s {service} %(levelname)s %(message)s", "%H:%M:%S")
    handler.setFormatter(JsonLines(str(service)) if settings.log_json else plain)
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    logging.getLogger("celery").setLevel("WARNING")
    tracing.configure(service)
    BUILD.info({"version": __version__, "service": service})
    if settings.metrics_port:
        start_http_server(settings.metrics_port)
