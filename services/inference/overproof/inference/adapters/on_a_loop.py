"""What engines with an event loop of their own have in common: requests of any number of shards in flight at once.

`generate` hands prompts to the loop from whichever thread asks and takes what is finished from a queue. The loop does as
little as possible: prompts are made ready, and completions read, in the thread that asked.
"""

from __future__ import annotations

import abc
import asyncio
import queue
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future
from typing import Any, Generic, NamedTuple, TypeVar

from overproof.inference.adapters.chat import PromptError, refused
from overproof.inference.ports import Completion, Request
from overproof.shared.errors import EngineUnavailable, OverproofError
from overproof.shared.specs import Sampling
from overproof.shared.topology import FinishReason

P = TypeVar("P")
"""A prompt as the engine takes it."""
R = TypeVar("R")
"""What the engine gives back for one draw."""
T = TypeVar("T")

POLL_SECONDS = 0.5
"""How often a shard whose completions are all under way looks whether it was stopped."""
SECONDS_TO_END = 10.0


class Draw(NamedTuple, Generic[P]):
    """One completion to make."""

    request: int
    draw: int
    seed: int
    prompt: P

    def refused(self, reason: str, prompt_tokens: int = 0) -> Completion:
        """The row of a draw that the engine would not make."""
        return Completion(self.request, self.draw, reason, 0, prompt_tokens, FinishReason.ERROR)


class LoopEngine(abc.ABC, Generic[P, R]):
    """An `Engine` whose completions are coroutines."""

    holds_gpu: bool = False
    """See `Engine.holds_gpu`."""
    ahead: int
    """Draws of one caller that are under way or wait in the engine's own queue, which must never be empty."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=type(self).__name__, daemon=True)
        self._thread.start()

    @abc.abstractmethod
    def prompt(self, request: Request) -> P:
        """Ready for the engine; in the caller's thread. Raises PromptError."""

    @abc.abstractmethod
    async def make(self, draw: Draw[P], sampling: Sampling) -> R:
        """On the loop. Raises PromptError when the engine refuses this draw alone, OverproofError when it serves none."""

    @abc.abstractmethod
    def read(self, draw: Draw[P], made: R, sampling: Sampling) -> Completion:
        """In the caller's thread."""

    def generate(
        self, requests: Iterable[Request], sampling: Sampling, check: Callable[[], None]
    ) -> Iterator[Completion]:
        """See `Engine.generate`."""
        finished: queue.SimpleQueue[tuple[Draw[P], R | BaseException]] = queue.SimpleQueue()
        refusals: deque[Completion] = deque()
        draws = self._draws(requests, refusals)
        running: dict[tuple[int, int], Future[None]] = {}
        try:
            while True:
                while len(running) < self.ahead and (draw := next(draws, None)):
                    running[draw.request, draw.draw] = self._submit(self._one(draw, sampling, finished))
                while refusals:
                    yield refusals.popleft()
                if not running:
                    return
                check()
                n_running = len(running)
                for done, made in _taken(finished):
                    del running[done.request, done.draw]
                    yield self._completion(done, made, sampling)
                if len(running) == n_running and (lost := self.lost()):
                    raise lost
        finally:
            for future in running.values():
                future.cancel()

    def lost(self) -> OverproofError | None:
        """Why no completion will come any more, if so: asked when none has come for a moment."""
        return None

    @property
    def places(self) -> int:
        """See `Engine.places`: all that it is handed, unless the engine has a queue of its own."""
        return self.ahead

    def _draws(self, requests: Iterable[Request], refusals: deque[Completion]) -> Iterator[Draw[P]]:
        for request in requests:
            try:
                prompt = self.prompt(request)
            except PromptError as error:
                refusals.extend(refused(request, error))
            else:
                for number, seed in enumerate(request.seeds):
                    yield Draw(request.number, number, seed, prompt)

    async def _one(
        self, draw: Draw[P], sampling: Sampling, finished: queue.SimpleQueue[tuple[Draw[P], R | BaseException]]
    ) -> None:
        try:
            finished.put((draw, await self.make(draw, sampling)))
        except Exception as error:
            finished.put((draw, error))

    def _completion(self, draw: Draw[P], made: R | BaseException, sampling: Sampling) -> Completion:
        if isinstance(made, PromptError):
            return draw.refused(str(made), made.prompt_tokens)
        if isinstance(made, OverproofError):
            raise made
        if isinstance(made, BaseException):
            raise EngineUnavailable(
                f"The engine broke: {type(made).__name__}: {made}", "It is started again."
            ) from made
        return self.read(draw, made, sampling)

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self._submit(work).result()

    def _end_loop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=SECONDS_TO_END)


def _taken(finished: queue.SimpleQueue[T]) -> Iterator[T]:
    """What is finished now, after waiting a moment for the first."""
    try:
        item = finished.get(timeout=POLL_SECONDS)
        while True:
            yield item
            item = finished.get_nowait()
    except queue.Empty:
        return
