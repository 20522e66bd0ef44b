"""Is it alive, is it ready, what are its figures."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest

from overproof.gateway.context import Context, Ctx
from overproof.gateway.views import Check, Readiness
from overproof.shared.errors import OverproofError

router = APIRouter(tags=["health"])


@router.get("/healthz", operation_id="getHealth", summary="Is the process alive?")
async def healthz() -> dict[str, str]:
    """Says nothing of what the gateway depends on: see `/readyz`."""
    return {"status": "ok"}


@router.get(
    "/readyz", operation_id="getReadiness", summary="Can requests be served?", responses={503: {"model": Readiness}}
)
def readyz(context: Ctx, response: Response) -> Readiness:
    """Redis and storage must answer; the pipeline is only reported, since runs may be submitted without it."""
    checks = {
        "redis": _check(True, lambda: _redis(context)),
        "storage": _check(True, lambda: _storage(context)),
        "pipeline": _check(False, lambda: _pipeline(context)),
    }
    if context.closing.is_set():
        checks["process"] = Check(ok=False, required=True, detail="The gateway is ending.", seconds=0)
    ready = all(check.ok for check in checks.values() if check.required)
    response.status_code = 200 if ready else 503
    return Readiness(ready=ready, checks=checks)


@router.get("/metrics", operation_id="getMetrics", summary="Prometheus metrics", response_class=Response)
def metrics(context: Ctx) -> Response:
    """Text format; no label holds a run's id."""
    content = generate_latest(REGISTRY) + generate_latest(context.registry)
    return Response(content, media_type=CONTENT_TYPE_LATEST)


def _check(required: bool, look: Callable[[], str]) -> Check:
    started = time.perf_counter()
    try:
        detail, ok = look(), True
    except OverproofError as error:
        detail, ok = str(error), False
    return Check(ok=ok, required=required, detail=detail, seconds=round(time.perf_counter() - started, 4))


def _redis(context: Context) -> str:
    context.probe.ping()
    return "answers"


def _storage(context: Context) -> str:
    path = f"probes/{secrets.token_hex(8)}"
    context.files.put(path, b"ready?")
    context.files.delete(path)
    return "writable"


def _pipeline(context: Context) -> str:
    owner = context.probe.leader("pipeline")
    if owner is None:
        raise OverproofError("No pipeline has shown itself lately.", "Start it; submitted runs wait until then.")
    return "at work"
