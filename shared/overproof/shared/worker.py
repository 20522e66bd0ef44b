"""One Celery factory, and what happens around every shard: look, claim, keep alive, publish, announce.

A service's `tasks.py` holds functions from a `Work` to nothing; everything else is here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
from celery import Celery
from celery.exceptions import CPendingDeprecationWarning
from celery.platforms import SecurityWarning
from celery.signals import setup_logging, worker_shutting_down
from kombu.exceptions import OperationalError

from overproof.shared import telemetry, tracing
from overproof.shared.artifacts import Artifacts, Failure, FilePart, Receipt
from overproof.shared.errors import (
    ArtifactMissing,
    BrokerUnavailable,
    CorruptShard,
    HandedBack,
    OverproofError,
    Stopped,
    StorageUnavailable,
)
from overproof.shared.files import Files
from overproof.shared.heartbeat import heartbeat
from overproof.shared.leases import PREFIX, Claim, Leases
from overproof.shared.messages import ShardDone, ShardRequest
from overproof.shared.pausing import Pause, pausing
from overproof.shared.settings import Settings
from overproof.shared.specs import Spec
from overproof.shared.topology import ROUTES, Service, TaskName

log = logging.getLogger(__name__)

S = TypeVar("S", bound=Spec)

VISIBILITY_SECONDS = 6 * 3600
"""Longer than any shard: recovery is by lease, and all apps on one Redis must use the same value."""
HEARTBEATS_PER_LEASE = 4
PASSING = (StorageUnavailable, BrokerUnavailable, ArtifactMissing, CorruptShard)
"""Not the shard's fault: trying again does not use up its attempts."""


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


class Work(Generic[S]):
    """One shard, as a task function sees it: what to make, where to read, where to write, when to stop."""

    def __init__(
        self,
        spec: S,
        request: ShardRequest,
        artifacts: Artifacts,
        report: Callable[[dict[str, Any]], None],
        scratch_root: Path | None = None,
    ) -> None:
        self.spec = spec
        self.shard = request.shard
        self.run_id = request.run_id
        self.ref = spec.ref
        self.artifacts = artifacts
        self.parts: list[FilePart] = []
        self.notes: dict[str, Any] = {}
        self.stop = threading.Event()
        self._report = report
        self._scratch_root = scratch_root
        self._scratch: Path | None = None

    def read(
        self, ref: str, schema: pa.Schema, *, part: int | None = None, columns: list[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Rows of part `part` of an artifact (all parts when None), one batch in memory at a time; stops when asked to."""
        for batch in self.artifacts.read(ref, schema, part=part, columns=columns):
            self.check()
            yield batch

    def write(self, schema: pa.Schema, tables: Iterable[pa.Table | pa.RecordBatch], *, suffix: str = "") -> FilePart:
        """Stream tables into the next part of this shard. `suffix` (`-0001`) keeps several parts of one shard in order."""
        part = self.artifacts.write_part(self.ref, self.shard, schema, tables, suffix=suffix)
        self.parts.append(part)
        return part

    def write_file(self, path: Path, name: str) -> FilePart:
        """Take a finished local file as the part `name`."""
        part = self.artifacts.write_file(self.ref, path, name)
        self.parts.append(part)
        return part

    def note(self, **values: Any) -> None:
        """Figures for the receipt, e.g. `busy_seconds`, `tokens`, `verdicts`: summed over shards by whoever reads them."""
        self.notes |= values

    def progress(self, **values: Any) -> None:
        """Live figures for display; lost when Redis is."""
        self._report(values)

    def check(self) -> None:
        """Raises Stopped when the worker ends, the run was halted, or the lease is gone: call it between batches."""
        if self.stop.is_set():
            raise Stopped("The shard was stopped.")

    def scratch(self) -> Path:
        """A local folder of this artifact that survives a crash: checkpoints go here.

        Where storage is no folder it lies below the settings' `scratch_root`: another machine would begin again.
        """
        if self.artifacts.files.is_local or self._scratch_root is None:
            self._scratch = self.artifacts.files.local(f"{self.artifacts.folder(self.ref)}/work")
        else:
            self._scratch = self._scratch_root / self.ref / "work"
        self._scratch.mkdir(parents=True, exist_ok=True)
        return self._scratch

    def discard_scratch(self) -> None:
        """Remove the scratch folder, if there is one: the shard is published, and optimizer states are several times the weights."""
        if self._scratch:
            shutil.rmtree(self._scratch, ignore_errors=True)


class Worker:
    """A service's side of the queue."""

    def __init__(self, service: Service, settings: Settings) -> None:
        self.service = service
        self.settings = settings
        self.artifacts = Artifacts(Files(settings.storage))
        self.leases = Leases(settings.redis_url, settings.lease_seconds, settings.max_attempts)
        self.app = celery_app(service, settings)
        self.owner = f"{service}-{socket.gethostname()}-{os.getpid()}"
        self.pause = Pause()
        self._under_way: set[threading.Event] = set()
        self._handed_back: set[tuple[str, int]] = set()
        """Shards whose last report still stands, so that people see what they wait for."""
        self._ending = False
        worker_shutting_down.connect(self._end, weak=False)

    def task(self, name: TaskName, kind: type[S]) -> Callable[[Callable[[Work[S]], None]], Callable[[Work[S]], None]]:
        """Register a function as the maker of one stage's shards."""

        def register(make: Callable[[Work[S]], None]) -> Callable[[Work[S]], None]:
            def receive(task: Any, **message: Any) -> None:
                request = ShardRequest.model_validate(message)
                with telemetry.following(name, tracing.received(task.request), **request.model_dump(mode="json")):
                    self.make_shard(request, kind, make)

            self.app.task(name=str(name), bind=True)(receive)
            return make

        return register

    def run(self) -> None:
        """Serve until SIGTERM."""
        self.app.steps["consumer"].add(pausing(self.pause))
        run_worker(self.app, self.service, self.settings)

    def make_shard(self, request: ShardRequest, kind: type[S], make: Callable[[Work[S]], None]) -> None:
        """The life of one shard; a second delivery of a finished one returns at once."""
        ref = f"{request.stage}/{request.key}"
        if self.artifacts.is_published(ref, request.shard):
            self._announce(request)
            return
        claim = self.leases.claim(self.service, ref, request.shard, self._owner())
        telemetry.CLAIMS.labels(request.stage, claim).inc()
        if claim is Claim.POISON:
            self._fail_poison(ref, request)
        elif claim is Claim.OK:
            self._make_leased(ref, request, kind, make)

    def _make_leased(self, ref: str, request: ShardRequest, kind: type[S], make: Callable[[Work[S]], None]) -> None:
        self._clear_handed_back()
        started = time.time()
        outcome, counts = "failed", True
        work: Work[S] | None = None
        try:
            spec = self.artifacts.spec(ref)
            if not isinstance(spec, kind) or spec.ref != ref:
                raise ArtifactMissing(f"The spec of {ref} is not what its key says.", "Remove the artifact's folder.")
            work = Work(
                spec,
                request,
                self.artifacts,
                lambda values: self._report(ref, request.shard, values),
                self.settings.scratch_root,
            )
            with self._kept_alive(ref, request, work):
                make(work)
                work.check()
                self._publish(ref, request, work, started)
                work.discard_scratch()
            outcome = "published"
        except HandedBack:
            outcome, counts = "handed_back", False
            self.pause.begin()
            self._handed_back.add((ref, request.shard))
        except Stopped:
            outcome, counts = "stopped", False
        except OverproofError as error:
            counts = not isinstance(error, PASSING)
            self._failed(ref, request, error)
        except Exception as error:
            log.exception("shard %s/%s broke", ref, request.shard, extra=request.model_dump(mode="json"))
            self._note_error(ref, request.shard, f"{type(error).__name__}: {error}")
        telemetry.SHARDS.labels(request.stage, outcome).inc()
        tracing.note(outcome=outcome, failed=outcome == "failed")
        level = logging.DEBUG if outcome == "handed_back" else logging.INFO  # again and again, for hours perhaps
        log.log(level, "%s/%s %s after %.1f s", ref, request.shard, outcome, time.time() - started)
        self._release(ref, request.shard, count_attempt=counts)
        if outcome in ("published", "failed"):
            self._announce(request)

    def _publish(self, ref: str, request: ShardRequest, work: Work[Any], started: float) -> None:
        finished = time.time()
        receipt = Receipt(
            shard=request.shard,
            parts=tuple(work.parts),
            notes=work.notes,
            owner=self._owner(),
            started_at=started,
            finished_at=finished,
        )
        telemetry.SHARD_SECONDS.labels(request.stage).observe(finished - started)
        if not self.artifacts.publish(ref, receipt):
            telemetry.DUPLICATE_PUBLISHES.labels(request.stage).inc()

    @contextlib.contextmanager
    def _kept_alive(self, ref: str, request: ShardRequest, work: Work[Any]) -> Iterator[None]:
        """Renew the lease in the background; `work.stop` is set when it is lost or the worker ends."""
        done = threading.Event()
        self._under_way.add(work.stop)
        if self._ending:
            work.stop.set()
        owner = self._owner()
        thread = threading.Thread(
            target=self._renew_until, args=(done, ref, request.shard, owner, work.stop), daemon=True
        )
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self._under_way.discard(work.stop)

    def _renew_until(self, done: threading.Event, ref: str, shard: int, owner: str, stop: threading.Event) -> None:
        while not done.wait(self.settings.lease_seconds / HEARTBEATS_PER_LEASE):
            telemetry.beat(self.service, self.settings.heartbeat_file)
            with contextlib.suppress(BrokerUnavailable):  # without Redis the work goes on and is published all the same
                if not self.leases.renew(ref, shard, owner):
                    telemetry.LEASES_LOST.labels(ref.partition("/")[0]).inc()
                    stop.set()
                    return

    def _failed(self, ref: str, request: ShardRequest, error: OverproofError) -> None:
        if error.retryable:
            log.warning("%s/%s will be tried again: %s", ref, request.shard, error)
            self._note_error(ref, request.shard, str(error))
            return
        self._fail(ref, request, error.message, error.remedy, type(error).__name__)

    def _fail_poison(self, ref: str, request: ShardRequest) -> None:
        last = self.leases.last_error(ref, request.shard) or "its worker died each time"
        message = f"Shard {request.shard} of {ref} was begun {self.settings.max_attempts} times and never ended: {last}"
        self._fail(ref, request, message, "Look at the worker's log, mend the cause, then resume the run.", "Poison")
        self._announce(request)

    def _fail(self, ref: str, request: ShardRequest, message: str, remedy: str, kind: str) -> None:
        log.error("%s/%s failed: %s", ref, request.shard, message, extra=request.model_dump(mode="json"))
        failure = Failure(
            shard=request.shard, message=message, remedy=remedy, kind=kind, owner=self._owner(), failed_at=time.time(),
            attempts=self._attempts(ref, request.shard),
        )  # fmt: skip
        self.artifacts.fail(ref, failure)

    # Redis may be away at any of these: the shard's result is in storage, and the pipeline finds it on its timer.

    def _announce(self, request: ShardRequest) -> None:
        done = ShardDone(**request.model_dump())
        with contextlib.suppress(OperationalError, BrokerUnavailable):
            self.app.send_task(TaskName.SHARD_DONE, kwargs=done.model_dump(mode="json"))

    def _release(self, ref: str, shard: int, *, count_attempt: bool) -> None:
        with contextlib.suppress(BrokerUnavailable):
            self.leases.release(ref, shard, self._owner(), count_attempt=count_attempt)
            if (ref, shard) not in self._handed_back:
                self.leases.clear_report(ref, shard)

    def _clear_handed_back(self) -> None:
        """Whoever has those shards next speaks for them."""
        shards, self._handed_back = self._handed_back, set()
        with contextlib.suppress(BrokerUnavailable):
            for ref, shard in shards:
                self.leases.clear_report(ref, shard)

    def _report(self, ref: str, shard: int, values: dict[str, Any]) -> None:
        with contextlib.suppress(BrokerUnavailable):
            self.leases.report(ref, shard, values)

    def _note_error(self, ref: str, shard: int, message: str) -> None:
        with contextlib.suppress(BrokerUnavailable):
            self.leases.note_error(self.service, ref, shard, message)

    def _attempts(self, ref: str, shard: int) -> int:
        with contextlib.suppress(BrokerUnavailable):
            return self.leases.attempts(ref, shard)
        return 0

    def _owner(self) -> str:
        return f"{self.owner}-{threading.get_ident()}"

    def _end(self, **_: Any) -> None:
        self._ending = True
        for stop in list(self._under_way):
            stop.set()
