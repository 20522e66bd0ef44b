"""Composition root: settings in, application out."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from overproof.gateway import openapi
from overproof.gateway.adapters.event_stream import Streams
from overproof.gateway.collector import RunsCollector
from overproof.gateway.context import Context
from overproof.gateway.keys import KeyRing
from overproof.gateway.observation import Observation
from overproof.gateway.problem_details import RESPONSES, add_handlers
from overproof.gateway.queues import QueuesCollector
from overproof.gateway.routes import artifacts, control, datasets, events, grade, health, runs
from overproof.gateway.settings import GatewaySettings
from overproof.shared import __version__, tracing
from overproof.shared.celery_app import celery_app
from overproof.shared.errors import UserError
from overproof.shared.files import Files
from overproof.shared.leases import Leases
from overproof.shared.runs import Runs
from overproof.shared.topology import Service

PROBE_SECONDS = 0.2


class OpenDoor(UserError):
    """A gateway that anybody on the network could use."""


def create_app(settings: GatewaySettings) -> FastAPI:
    """The application. Raises OpenDoor when it would listen beyond this machine without keys, KeyFileError."""
    context = _context(settings)
    if not context.keys.required and not settings.is_loopback:
        raise OpenDoor(
            f"The gateway would listen on {settings.host} and let everybody in: no API keys are set up.",
            "Set OVERPROOF_API_KEYS or OVERPROOF_API_KEYS_FILE (`overproof-gateway new-key` makes a key), "
            "or listen on 127.0.0.1.",
        )
    app = FastAPI(
        title="Overproof", version=__version__, docs_url=None, redoc_url=None, responses=RESPONSES, lifespan=_lifespan
    )
    app.state.context = context
    app.state.streams = Streams(settings.max_event_streams)
    app.openapi = lambda: openapi.describe(app)  # type: ignore[method-assign]
    app.add_middleware(Observation)
    add_handlers(app)
    for part in (runs, control, events, artifacts, datasets, grade, health):
        app.include_router(part.router)
    return app


def _context(settings: GatewaySettings) -> Context:
    files = Files(settings.storage)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(RunsCollector(files))
    probe = Leases(settings.redis_url, timeout_seconds=PROBE_SECONDS, retries=0)
    registry.register(QueuesCollector(probe))
    return Context(
        settings=settings,
        files=files,
        runs=Runs(files),
        leases=Leases(settings.redis_url, timeout_seconds=settings.live_timeout_seconds, retries=0),
        probe=probe,
        celery=celery_app(Service.GATEWAY, settings),
        keys=KeyRing(settings.api_keys, settings.api_keys_file),
        registry=registry,
    )


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    app.state.context.closing.set()
    app.state.context.celery.close()
    tracing.flush()
