"""vLLM waits for its GPUs' memory: it takes its share at once or does not start, and a training may be running there.

A shard waits with its worker only for moments. Then it goes back to the queue, where a worker on another GPU finds it.
"""

from __future__ import annotations

import os
import time
from typing import NamedTuple

from overproof.inference.settings import InferenceSettings
from overproof.shared import gpu_memory
from overproof.shared.errors import HandedBack, UserError
from overproof.shared.gpu_memory import GIB, Gpu, Short
from overproof.shared.recipe import EngineOptions
from overproof.shared.specs import SampleSpec
from overproof.shared.work import Work

HOLD_SECONDS = 20.0
"""So long a shard waits before it is first handed back: processes that are ending (this worker's last model, a training) have
given their memory back by then. Shards that come while there is still no room are handed back after one look."""
FORGET_SECONDS = 1_800.0
"""A stage of which no shard came here for so long begins to wait anew: its run was paused, or other workers had its shards. Of 256 that
wait in the queue each is here again within eleven minutes, by eights and a pause of 20 s."""


class NoRoom(UserError):
    """Something else keeps the memory of a GPU that the engine is to run on."""


class Wait(NamedTuple):
    """One stage's waiting for this worker's GPUs; times are of the monotonic clock."""

    since: float
    asked: float
    """When a shard of it was last here."""
    done: int
    """Shards that the stage had when it began: more of them mean that another worker has room."""


class Room:
    """What a worker remembers, from shard to shard, of its GPUs' lack of room. Used by one thread at a time: the one that loads."""

    def __init__(self, settings: InferenceSettings) -> None:
        self._seconds = settings.gpu_wait_seconds
        self._waits: dict[str, Wait] = {}
        self._is_full = False
        """There was no room when it was last looked for."""

    def wait(self, work: Work[SampleSpec]) -> None:
        """Until `gpu_memory_utilization` of each of the engine's GPUs is free.

        Raises HandedBack when that takes longer than HOLD_SECONDS, NoRoom when it has taken `gpu_wait_seconds` over all shards of the
        stage that came here and no worker made one, and Stopped.
        """
        left = self._seconds - self._waited(work)
        hold = 0.0 if self._is_full else HOLD_SECONDS
        short = self._short(work, min(left, hold))
        self._is_full = short is not None
        if short is None:
            self._waits.clear()
            return
        if left <= hold and not self._begins_anew(work):
            del self._waits[work.ref]
            raise self._no_room(work.spec.engine, short)
        work.progress(phase=gpu_memory.PHASE)
        raise HandedBack(f"{gpu_memory.PHASE}: {short}.")

    def _short(self, work: Work[SampleSpec], seconds: float) -> Short | None:
        options = work.spec.engine
        return gpu_memory.wait_for_room(
            look=lambda: _gpus(options),
            need=lambda gpu: options.gpu_memory_utilization * gpu.total,
            check=work.check,
            tell=lambda: work.progress(phase=gpu_memory.PHASE),
            seconds=seconds,
        )

    def _waited(self, work: Work[SampleSpec]) -> float:
        """Seconds since the first shard of this stage waited here."""
        now, wait = time.monotonic(), self._waits.get(work.ref)
        if wait is None or now - wait.asked > FORGET_SECONDS:
            wait = Wait(now, now, _done(work))
        self._waits[work.ref] = wait._replace(asked=now)
        return now - wait.since

    def _begins_anew(self, work: Work[SampleSpec]) -> bool:
        """Whether other workers get on with the stage; then it begins to wait again."""
        now, done = time.monotonic(), _done(work)
        if done <= self._waits[work.ref].done:
            return False
        self._waits[work.ref] = Wait(now, now, done)
        return True

    def _no_room(self, options: EngineOptions, short: Short) -> NoRoom:
        return NoRoom(
            f"engine.gpu_memory_utilization {options.gpu_memory_utilization:g} is {short.needed / GIB:.1f} GiB, and after "
            f"{self._seconds:.0f} s of waiting {short}.",
            "A training has it, or a program that nvidia-smi names: end it or let it finish, then resume the run; or lower "
            "engine.gpu_memory_utilization, or raise OVERPROOF_GPU_WAIT_SECONDS.",
        )


def _gpus(options: EngineOptions) -> list[Gpu]:
    return gpu_memory.visible(os.environ.get("CUDA_VISIBLE_DEVICES"))[: options.tensor_parallel_size]


def _done(work: Work[SampleSpec]) -> int:
    return len(work.artifacts.listing(work.ref).done)
