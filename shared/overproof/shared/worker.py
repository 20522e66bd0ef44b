"""What happens around every shard: look, claim, keep alive, publish, announce.

A service's `tasks.py` holds functions from a `Work` to nothing; everything else is here.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from celery.signals import worker_shutting_down
from kombu.exceptions import OperationalError

from overproof.shared import telemetry, tracing
from overproof.shared.artifacts import Artifacts
from overproof.shared.celery_app import celery_app, run_worker
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
from overproof.shared.leases import Claim, Leases
from overproof.shared.messages import ShardDone, ShardRequest
from overproof.shared.pausing import Pause, pausing
from overproof.shared.records import Failure, Receipt
from overproof.shared.settings import Settings
from overproof.shared.topology import Service, TaskName
from overproof.shared.work import S, Work

log = logging.getLogger(__name__)

HEARTBEATS_PER_LEASE = 4
PASSING = (StorageUnavailable, BrokerUnavailable, ArtifactMissing, CorruptShard)
"""Not the shard's fault: trying again does not use up its attempts."""


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
