"""Spans of one request across services, sent over OTLP/HTTP when OTEL_EXPORTER_OTLP_ENDPOINT names a collector.

A context travels as W3C `traceparent`: into the gateway in a request's header, from there in the run's record, from the
pipeline in a message's headers, beside the request's id. OpenTelemetry is imported by `configure` only, and only when it is
wanted (the extra `overproof-shared[tracing]`); the usual OTEL_... variables (sampler, headers, resource) apply.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from importlib.util import find_spec
from typing import Any, Literal

from celery.signals import before_task_publish

from overproof.shared import __version__
from overproof.shared.errors import UserError
from overproof.shared.topology import Service

Kind = Literal["SERVER", "PRODUCER", "CONSUMER"]

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
PROTOCOLS = ("OTEL_EXPORTER_OTLP_PROTOCOL", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
CARRIED = ("traceparent", "tracestate", "request_id")
"""Headers of a message, and keys of what `carried` gives."""

_provider: Any = None
_tracer: Any = None
_request_id: ContextVar[str] = ContextVar("overproof_request_id", default="")


class TracingUnavailable(UserError):
    """Traces are asked for and cannot be sent."""


def wanted(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a collector is named. Raises TracingUnavailable when traces could not be sent to it."""
    if environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or not any(environ.get(name) for name in ENDPOINTS):
        return False
    if find_spec("opentelemetry") is None or find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        raise TracingUnavailable(
            f"{ENDPOINTS[0]} is set, but OpenTelemetry is not installed.",
            "Install 'overproof-shared[tracing]', or unset the variable.",
        )
    for name in PROTOCOLS:
        if environ.get(name, "http/protobuf") != "http/protobuf":
            raise TracingUnavailable(
                f"{name} is {environ[name]}, which is not spoken here.",
                "Set it to http/protobuf (port 4318 as a rule).",
            )
    return True


def configure(service: Service) -> None:
    """Send spans in the background from now on, if a collector is named. Raises TracingUnavailable."""
    global _provider, _tracer
    if not wanted():
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    logging.getLogger("opentelemetry").setLevel("ERROR")  # a collector that is away is told, not its every retry
    about = {"service.namespace": "overproof", "service.name": str(service), "service.version": __version__}
    _provider = TracerProvider(resource=Resource.create(about))  # at exit it sends what is left
    _provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    _tracer = _provider.get_tracer("overproof", __version__)


def flush() -> None:
    """Send what is left, for a process that a signal ends."""
    if _provider is not None:
        _provider.force_flush()


@contextlib.contextmanager
def span(name: str, kind: Kind, parent: Mapping[str, str] | None = None, **attributes: Any) -> Iterator[None]:
    """A span around the block. `parent`: headers that may hold a `traceparent`; None: the span around this one."""
    if _tracer is None:
        yield
        return
    from opentelemetry.propagate import extract
    from opentelemetry.trace import SpanKind

    context = extract(parent) if parent is not None else None
    with _tracer.start_as_current_span(name, context, SpanKind[kind], attributes=_known(attributes)):
        yield


def note(*, name: str = "", failed: bool = False, **attributes: Any) -> None:
    """What is known of the current span only at its end: attributes, a better name, that it failed."""
    if _tracer is None:
        return
    from opentelemetry.trace import StatusCode, get_current_span

    current = get_current_span()
    current.set_attributes(_known(attributes))
    if name:
        current.update_name(name)
    if failed:
        current.set_status(StatusCode.ERROR)


@contextlib.contextmanager
def on_behalf_of(request_id: str) -> Iterator[None]:
    """What is sent inside the block carries the id of the request that it follows from."""
    token = _request_id.set(request_id)
    try:
        yield
    finally:
        _request_id.reset(token)


def request_id() -> str:
    """Of the request that this thread works for; empty when it works for none."""
    return _request_id.get()


def trace_id() -> str:
    """Of the current span, 32 hexadecimal digits; empty without one."""
    return carried().get("traceparent", "--").split("-")[1]


def carried() -> dict[str, str]:
    """What a message or a record takes along: `request_id`, and `traceparent` of the current span."""
    found = {"request_id": _request_id.get()} if _request_id.get() else {}
    if _tracer is not None:
        from opentelemetry.propagate import inject

        context: dict[str, str] = {}
        inject(context)
        found |= {name: value for name, value in context.items() if name in CARRIED}
    return found


def received(message: Any) -> dict[str, str]:
    """What a task's message took along (`message`: Celery's request)."""
    return {name: value for name in CARRIED if isinstance(value := message.get(name), str)}


@before_task_publish.connect(weak=False)  # type: ignore[untyped-decorator, unused-ignore]
def _take_along(headers: dict[str, Any] | None = None, **_: Any) -> None:
    if headers is not None:
        headers |= carried()


def _known(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """`http__route` → `http.route`; `run_id`, a name of our own → `overproof.run_id`; values are numbers or text."""
    return {
        _dotted(name): value if isinstance(value, bool | int | float) else str(value)
        for name, value in attributes.items()
    }


def _dotted(name: str) -> str:
    return name.replace("__", ".") if "__" in name else f"overproof.{name}"
