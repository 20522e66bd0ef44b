"""The clock of the pipeline: a look after every message, soon but not at once, and one every few seconds anyway."""

from __future__ import annotations

import contextlib
import logging
import threading
import time

from prometheus_client import Counter, Gauge

from overproof.pipeline.reconcile import Reconciler
from overproof.pipeline.settings import PipelineSettings
from overproof.shared.errors import BrokerUnavailable, OverproofError
from overproof.shared.leases import Leases

log = logging.getLogger(__name__)

LOOKS = Counter("overproof_reconciler_looks_total", "Looks at all runs.", ["outcome"])
LAST_SUCCESS = Gauge(
    "overproof_reconciler_last_success_timestamp_seconds", "Unix time of the last look that ended well."
)
LOOK_SECONDS = Gauge("overproof_reconciler_look_seconds", "How long the last look took.")


class Loop:
    """Runs the reconciler in a thread of its own; of several pipelines one leads."""

    def __init__(self, reconciler: Reconciler, leases: Leases, settings: PipelineSettings, owner: str) -> None:
        self._reconciler = reconciler
        self._leases = leases
        self._settings = settings
        self._owner = owner
        self._woken = threading.Event()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reconciler", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """A shard is done: look soon."""
        self._woken.set()

    def end(self) -> None:
        """Finish the look under way, then stop."""
        self._ended.set()
        self._woken.set()
        self._thread.join(timeout=30)
        with contextlib.suppress(BrokerUnavailable):
            self._leases.step_down("pipeline", self._owner)

    def _run(self) -> None:
        while not self._ended.is_set():
            self._woken.wait(self._settings.reconcile_seconds)
            self._woken.clear()
            self._look()
            self._ended.wait(self._settings.debounce_seconds)

    def _look(self) -> None:
        started = time.monotonic()
        try:
            if not self._leases.lead("pipeline", self._owner, self._settings.lease_seconds):
                return
            self._reconciler.reconcile()
        except OverproofError as error:
            LOOKS.labels("failed").inc()
            log.warning("%s", error)
        except Exception:
            LOOKS.labels("broken").inc()
            log.exception("a look broke; the next one goes on")
        else:
            LOOKS.labels("done").inc()
            LAST_SUCCESS.set_to_current_time()
            LOOK_SECONDS.set(time.monotonic() - started)
