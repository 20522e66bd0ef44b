"""Why vLLM did not start: its own reason in one sentence. The engine lives in child processes, which only print theirs."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from overproof.inference.adapters.chat import first_line
from overproof.shared.errors import EngineUnavailable, ModelError, OverproofError

KEPT_LINES = 2_000
RAISED = re.compile(r"(?:^|[\s\]])(?:[\w.]+\.)?(\w*(?:Error|Exception)): (\S.*)$")
"""The last line of a traceback, whatever a logger put before it."""
SUMMARIES = (
    "engine core initialization failed",
    "enginecore failed",
    "workerproc initialization failed",
    "see root cause above",
)
"""vLLM's own follow-up errors: they tell nothing."""
ANSI = re.compile(r"\x1b\[[0-9;]*m")


class Cause(NamedTuple):
    """A kind of reason."""

    pattern: re.Pattern[str]
    remedy: str
    may_pass: bool = False
    """Whether a second try could mend it."""


CAUSES = (
    Cause(
        re.compile(r"no available memory for the cache|KV cache is needed", re.I),
        "Raise engine.gpu_memory_utilization or engine.tensor_parallel_size, or lower engine.max_model_len.",
    ),
    Cause(  # the room that was waited for has gone to another program meanwhile: the next try waits again
        re.compile(r"free memory on device", re.I),
        "Lower engine.gpu_memory_utilization, or end what else uses the device.",
        may_pass=True,
    ),
    Cause(
        re.compile(r"out of memory|OutOfMemory|cannot allocate memory", re.I),
        "Lower engine.gpu_memory_utilization, engine.max_model_len or max_num_seqs, raise engine.tensor_parallel_size, "
        "or end what else uses the device.",
    ),
    Cause(
        re.compile(r"derived max_model_len|max seq len|longer than the maximum model length", re.I),
        "Lower engine.max_model_len to what the model was made for, or leave it out.",
    ),
    Cause(
        re.compile(r"architecture|model type|not supported", re.I),
        "Name a model that this version of vLLM serves, or choose engine.kind: transformers.",
    ),
    Cause(
        re.compile(
            r"safetensor|deserializing header|weights|no such file|not appear to have a file|size mismatch|shape|parameter",
            re.I,
        ),
        "Restore the checkpoint's files.",
    ),
)
"""The first that fits: what vLLM, torch and safetensors write, in the words of their sources."""


def failure(name: str, error: BaseException, printed: Iterable[str]) -> OverproofError:
    """ModelError for a reason that stays, EngineUnavailable for one that may pass.

    `printed`: what the processes wrote while the engine started.
    """
    reason = reason_of(error, printed)
    for cause in CAUSES:
        if cause.pattern.search(reason):
            kind = EngineUnavailable if cause.may_pass else ModelError
            return kind(f"vLLM does not load {name}: {reason}", cause.remedy)
    return EngineUnavailable(f"vLLM did not start with {name}: {reason}", "Look at the worker's log.")


def reason_of(error: BaseException, printed: Iterable[str]) -> str:
    """The last error that says something, in one line."""
    for line in reversed(tuple(printed)):
        match = RAISED.search(ANSI.sub("", line).rstrip())
        if match and not any(summary in match[2].lower() for summary in SUMMARIES):
            return match[2][:300]
    return explained(error)


def explained(error: BaseException) -> str:
    """The first line that says something; pydantic's first one only counts the errors."""
    errors = getattr(error, "errors", None)
    if callable(errors):
        with contextlib.suppress(IndexError, KeyError, TypeError):
            return str(errors()[0]["msg"]).removeprefix("Value error, ").splitlines()[0][:300]
    return first_line(error)


@contextlib.contextmanager
def listening() -> Iterator[deque[str]]:
    """The last lines that this process writes to standard output and error meanwhile, and its new children for good.

    All of it is passed on.
    """
    heard: deque[str] = deque(maxlen=KEPT_LINES)
    source, sink = os.pipe()
    saved = {number: os.dup(number) for number in (1, 2)}
    threading.Thread(target=_pump, args=(source, os.dup(2), heard), name="heard", daemon=True).start()
    for number in saved:
        os.dup2(sink, number)
    os.close(sink)
    try:
        yield heard
    finally:
        for number, original in saved.items():
            os.dup2(original, number)
            os.close(original)


def _pump(source: int, sink: int, heard: deque[str]) -> None:
    """Until the last writer is gone: the engine's processes go on printing into the pipe after they have started."""
    rest = b""
    with contextlib.suppress(OSError):
        while chunk := os.read(source, 65_536):
            os.write(sink, chunk)
            *lines, rest = (rest + chunk).split(b"\n")
            heard.extend(line.decode(errors="replace") for line in lines)
    os.close(source)
    os.close(sink)
