"""The one Celery factory, and how a worker serves its service's queue."""

from __future__ import annotations

import os
import socket
import warnings
from typing import Any

from celery import Celery
from celery.exceptions import CPendingDeprecationWarning
from celery.platforms import SecurityWarning
from celery.signals import setup_logging

from overproof.shared.heartbeat import heartbeat
from overproof.shared.leases import PREFIX
from overproof.shared.settings import Settings
from overproof.shared.topology import ROUTES, Service

VISIBILITY_SECONDS = 6 * 3600
"""Longer than any shard: recovery is by lease, and all apps on one Redis must use the same value."""


def celery_app(service: Service, settings: Settings) -> Celery:
    """The Celery application of a service, for sending and (in workers) for receiving.

    No result backend, no prefetch, late acknowledgement; a broker that goes away cancels nothing.
    """
    app = Celery(f"overproof.{service}", broker=settings.redis_url)
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        event_serializer="json",
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        task_acks_on_failure_or_timeout=True,
        worker_prefetch_multiplier=1,
        worker_disable_prefetch=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_pool_acquire_timeout=10,
        task_publish_retry_policy={"max_retries": 2, "interval_start": 0.1, "interval_step": 0.3, "interval_max": 1},
        broker_transport_options={
            "global_keyprefix": PREFIX,
            "visibility_timeout": VISIBILITY_SECONDS,
            "unacked_key": f"unacked:{service}",
            "unacked_index_key": f"unacked_index:{service}",
            "unacked_mutex_key": f"unacked_mutex:{service}",
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
            "client_name": f"overproof-{service}",
        },
        task_default_queue=str(service),
        task_routes=ROUTES,
    )
    return app


@setup_logging.connect(weak=False)  # type: ignore[untyped-decorator, unused-ignore]
def _leave_logging_alone(**_: Any) -> None:
    """Somebody who listens keeps Celery from raising the root logger's level to its own."""


def run_worker(app: Celery, service: Service, settings: Settings) -> None:
    """Serve the service's queue until SIGTERM; shards under way are handed back at once."""
    app.steps["worker"].add(heartbeat(service, settings.heartbeat_file))
    warnings.filterwarnings("ignore", category=SecurityWarning)  # root unpickling messages: these are JSON only
    warnings.filterwarnings(
        "ignore", category=CPendingDeprecationWarning
    )  # what a lost broker cancels: nothing, on purpose
    worker = app.Worker(
        hostname=f"{service}-{os.getpid()}@{socket.gethostname()}",
        queues=str(service),
        pool_cls="threads",
        concurrency=settings.concurrency,
        without_gossip=True,
        without_mingle=True,
        loglevel="WARNING",
        quiet=True,
    )
    worker.start()
