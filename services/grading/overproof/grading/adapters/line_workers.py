"""Grading processes behind one stream of lines: verdicts come out in the order of the lines, as soon as they are there.

Each process is this package run again with pipes. A process that dies or hangs costs the one line it was working on, which
gets an error in its place; its other lines go to the next process. Memory is bounded by what may be under way.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, BinaryIO, NamedTuple, Self

from overproof.shared.topology import Verdict

MAX_WORKERS = 256
MAX_LINE_BYTES = 64 << 20
"""A completion of ten megabytes is possible, escaped it may be six times that; longer lines are refused unread."""
LINES_PER_BATCH = 64
BATCHES_PER_WORKER = 4
READ_BYTES = 1 << 16
WINDOW_LINES = 8
WINDOW_BYTES = 32 << 10
"""What is sent to a process before it answers: half a pipe, so that neither side ever waits for the other to read."""
PATIENCE_SECONDS = 60.0
"""For one line, every comparison of which has a budget of its own: past this the process itself hangs. Covers its start."""
EXIT_BROKEN_PIPE = 141

Failed = Callable[[str, Verdict], dict[str, Any]]
"""From a sentence and a verdict to what stands in the place of a line's verdict."""


class Batch(NamedTuple):
    """Lines that arrived together; `verdicts` receives one line of bytes for each of them."""

    lines: list[bytes | None]
    verdicts: queue.SimpleQueue[bytes]


class LineWorkers:
    """`workers` processes, each fed by a thread."""

    def __init__(self, workers: int, arguments: list[str], failed: Failed) -> None:
        self._arguments = arguments
        self._failed = failed
        self._waiting: queue.Queue[Batch | None] = queue.Queue(workers * BATCHES_PER_WORKER)
        self._in_order: queue.Queue[Batch | None] = queue.Queue(workers * BATCHES_PER_WORKER)
        self._stop = threading.Event()
        self._processes = [LineProcess(arguments) for _ in range(workers)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for process in self._processes:
            process.kill()

    def run(self, source: BinaryIO, target: BinaryIO) -> int:
        """All lines of `source` to `target`; returns the exit status."""
        for work in (lambda: self._read(source), *(self._feeder(process) for process in self._processes)):
            threading.Thread(target=work, daemon=True).start()
        try:
            self._write(target)
        except BrokenPipeError:  # `overproof grade < lines | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            return EXIT_BROKEN_PIPE
        return 0

    def _read(self, source: BinaryIO) -> None:
        for lines in batches_of(source):
            batch = Batch(lines, queue.SimpleQueue())
            self._in_order.put(batch)
            self._waiting.put(batch)
        self._in_order.put(None)

    def _feeder(self, process: LineProcess) -> Callable[[], None]:
        def feed() -> None:
            while not self._stop.is_set():
                batch = self._waiting.get()
                if batch is not None:
                    self._grade(process, batch)

        return feed

    def _grade(self, process: LineProcess, batch: Batch) -> None:
        waiting = deque(batch.lines)
        while waiting:
            for verdict in process.answers(waiting, self._too_long()):
                batch.verdicts.put(verdict)
                waiting.popleft()
            if waiting and not self._stop.is_set():
                waiting.popleft()
                batch.verdicts.put(self._error(f"The process that graded this line {process.lost}.", Verdict.TIMEOUT))
                process.restart()

    def _too_long(self) -> bytes:
        return self._error(
            f"The line is longer than {MAX_LINE_BYTES >> 20} MiB; shorten the output.", Verdict.UNGRADABLE
        )

    def _error(self, sentence: str, verdict: Verdict) -> bytes:
        return json.dumps(self._failed(sentence, verdict)).encode() + b"\n"

    def _write(self, target: BinaryIO) -> None:
        while (batch := self._in_order.get()) is not None:
            for _ in batch.lines:
                if batch.verdicts.empty():
                    target.flush()
                target.write(batch.verdicts.get())
            if self._in_order.empty():
                target.flush()
        target.flush()


def batches_of(source: BinaryIO) -> Iterator[list[bytes | None]]:
    """Whole lines as they arrive, at most LINES_PER_BATCH at once; None stands for one that is longer than MAX_LINE_BYTES."""
    pieces: list[bytes] = []
    n_bytes = 0
    while data := os.read(source.fileno(), READ_BYTES):
        ready: list[bytes | None] = []
        *ended, rest = data.split(b"\n")
        for piece in ended:
            ready.append(_joined(pieces, piece, n_bytes))
            pieces, n_bytes = [], 0
        n_bytes += len(rest)
        if n_bytes <= MAX_LINE_BYTES:
            pieces.append(rest)
        else:
            pieces = []
        for start in range(0, len(ready), LINES_PER_BATCH):
            yield ready[start : start + LINES_PER_BATCH]
    if n_bytes:
        yield [_joined(pieces, b"", n_bytes)]


def _joined(pieces: list[bytes], last: bytes, n_bytes: int) -> bytes | None:
    return b"".join((*pieces, last)) if n_bytes + len(last) <= MAX_LINE_BYTES else None


class LineProcess:
    """One process that answers lines in order. Not shared between threads."""

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self.lost = ""
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "overproof.grading", *self._arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            process_group=0,  # Ctrl-C is for the process in front; it ends this one, and so does the end of stdin
        )
        self._received = b""
        if self._process.stdin is not None:
            os.set_blocking(
                self._process.stdin.fileno(), False
            )  # a write takes what fits, the deadline holds for the rest

    def restart(self) -> None:
        """Another process in the place of this one."""
        self.kill()
        self._start()

    def kill(self) -> None:
        """End the process; the children of its slow path end with it."""
        self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        self._process.wait()

    def answers(self, lines: deque[bytes | None], too_long: bytes) -> Iterator[bytes]:
        """The verdicts on the lines one by one; ends early when the process is lost (`lost` says how). Leaves `lines` alone."""
        sent: deque[int] = deque()
        todo = deque(lines)
        while todo or sent:
            if todo and todo[0] is None and not sent:
                todo.popleft()
                yield too_long
                continue
            try:
                while todo and todo[0] is not None and _fits(sent, len(todo[0])):
                    line = todo.popleft() or b""
                    sent.append(len(line))
                    self._send(line + b"\n")
                verdict = self._receive()
            except (
                OSError,
                ValueError,
            ) as error:  # ValueError: this end was closed, the reader of the verdicts went away
                self.lost = str(error) if isinstance(error, TimeoutError) else "died"
                return
            sent.popleft()
            yield verdict

    def _send(self, data: bytes) -> None:
        view = memoryview(data)
        while view and self._process.stdin is not None:
            deadline = time.monotonic() + PATIENCE_SECONDS
            if not select.select([], [self._process.stdin], [], deadline - time.monotonic())[1]:
                raise TimeoutError("took too long")
            view = view[os.write(self._process.stdin.fileno(), view[:READ_BYTES]) :]

    def _receive(self) -> bytes:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while b"\n" not in self._received:
            pipe = self._process.stdout
            if pipe is None or not select.select([pipe], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise TimeoutError("took too long")
            data = os.read(pipe.fileno(), READ_BYTES)
            if not data:
                raise BrokenPipeError("died")
            self._received += data
        verdict, _, self._received = self._received.partition(b"\n")
        return verdict + b"\n"


def _fits(sent: deque[int], n_bytes: int) -> bool:
    return not sent or (len(sent) < WINDOW_LINES and sum(sent) + n_bytes + len(sent) < WINDOW_BYTES)
