"""Around every request: an id, a duration, safe headers, and a problem body when something breaks."""

from __future__ import annotations

import logging
import re
import secrets
import time

from prometheus_client import Gauge, Histogram
from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from overproof.gateway.problem_details import broken
from overproof.shared import tracing

log = logging.getLogger(__name__)

REQUEST_ID = re.compile(r"^[A-Za-z0-9._-]{1,64}$")

SECONDS = Histogram(
    "http_request_duration_seconds",
    "Seconds from a request's first byte to the answer's last, by route template.",
    ["method", "route", "status"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
)
IN_FLIGHT = Gauge("http_requests_in_flight", "Requests under way.")
PROBED = frozenset({"/healthz", "/readyz", "/metrics"})
METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"})


class Observation:
    """Pure ASGI, so that streams pass through chunk by chunk."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        asked = Request(scope).headers.get("x-request-id", "")
        request_id = asked if REQUEST_ID.match(asked) else secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers["X-Request-ID"] = request_id
                headers["X-Content-Type-Options"] = "nosniff"
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        started, method = time.perf_counter(), _method(scope)
        with (
            IN_FLIGHT.track_inprogress(),
            tracing.on_behalf_of(request_id),
            tracing.span(method, "SERVER", Request(scope).headers, request_id=request_id, http__request__method=method),
        ):
            try:
                await self.app(scope, receive, send_with_headers)
            except Exception:
                log.exception("request %s broke", request_id)
                if status:  # the answer has begun: cutting the connection is the only way to say that it is not whole
                    raise
                await broken(Request(scope))(scope, receive, send_with_headers)
            finally:
                _tell(method, _route(scope), status, time.perf_counter() - started)


def _tell(method: str, route: str, status: int, seconds: float) -> None:
    """A request that is over: metric, span, and a line unless a machine asks every few seconds. Never the path: it is not ours."""
    SECONDS.labels(method, route, str(status)).observe(seconds)
    tracing.note(name=f"{method} {route}", failed=status >= 500, http__route=route, http__response__status_code=status)
    log.log(logging.DEBUG if route in PROBED else logging.INFO, "%s %s %s in %.3f s", method, route, status, seconds)


def _method(scope: Scope) -> str:
    return scope["method"] if scope["method"] in METHODS else "other"


def _route(scope: Scope) -> str:
    """The route's template, never the path itself: labels stay few."""
    return str(getattr(scope.get("route"), "path", "unmatched"))
