"""What every route works with; made once, in `app.py`."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Annotated

from celery import Celery
from fastapi import Depends, Request
from prometheus_client import CollectorRegistry

from overproof.gateway.keys import KeyRing
from overproof.gateway.settings import GatewaySettings
from overproof.shared.artifacts import Artifacts
from overproof.shared.files import Files
from overproof.shared.leases import Leases
from overproof.shared.runs import Runs


@dataclass
class Context:
    """Settings, storage, Redis and keys."""

    settings: GatewaySettings
    files: Files
    runs: Runs
    leases: Leases
    """Answers within `live_timeout_seconds`, or raises BrokerUnavailable."""
    probe: Leases
    """The same for `/readyz`, within PROBE_SECONDS."""
    celery: Celery
    keys: KeyRing
    registry: CollectorRegistry
    """Metrics that are read from storage when somebody asks for them."""
    closing: threading.Event = field(default_factory=threading.Event)
    """Set when the process was asked to end: streams finish, `/readyz` says 503."""

    def artifacts(self) -> Artifacts:
        """A reader of its own for each request: its memory of manifests is not made for many threads."""
        return Artifacts(self.files)


def context_of(request: Request) -> Context:
    """The context of the application that serves this request."""
    found: Context = request.app.state.context
    return found


Ctx = Annotated[Context, Depends(context_of)]
