"""How a child says why it gave up, and how the worker turns that into one clear sentence."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from overproof.shared import errors
from overproof.shared.errors import EngineUnavailable, OverproofError
from overproof.training.job import write_whole

OUT_OF_MEMORY = ("out of memory", "OutOfMemoryError", "can't allocate memory", "MemoryError", "std::bad_alloc")
LOST_PEER = ("gloo", "NCCL", "Connection reset by peer", "Connection closed by peer", "Broken pipe")
LESS_MEMORY = "Lower training.micro_batch_size or training.max_length, raise training.zero_stage, or set training.gradient_checkpointing."
MAX_LINE = 300


class Gone(NamedTuple):
    """What a child left behind."""

    kind: str
    message: str
    remedy: str
    at: float
    """Unix seconds: the first rank to fail is the cause, the others lose their connection to it."""


@contextmanager
def reported(scratch: Path, rank: int) -> Iterator[None]:
    """Leave `error-<rank>.json` when the block raises; the exception goes on, and its traceback into the log."""
    try:
        yield
    except Exception as error:
        mine = error if isinstance(error, OverproofError) else None
        message = mine.message if mine else "".join(traceback.format_exception_only(error)).strip()
        gone = Gone(type(error).__name__, message, mine.remedy if mine else "", time.time())
        write_whole(scratch / f"error-{rank}.json", json.dumps(gone._asdict()))
        raise


def forget(scratch: Path) -> None:
    """Remove what an earlier attempt left."""
    for path in scratch.glob("error-*.json"):
        path.unlink()


def final(scratch: Path) -> OverproofError | None:
    """What another attempt would die of too, if a process has left such an error."""
    if not any(scratch.glob("error-*.json")):
        return None
    found = explain(scratch, 1, "")
    return None if found.retryable else found


def explain(scratch: Path, status: int, log_tail: str) -> OverproofError:
    """The error of a child that ended with `status` (negative: killed by that signal)."""
    left = [Gone(**json.loads(path.read_text())) for path in scratch.glob("error-*.json")]
    first = min(left, key=lambda gone: (not hasattr(errors, gone.kind), gone.at), default=None)
    killed = "Signal 9" in log_tail or "SIGKILL" in log_tail or status == -9
    if first and not (killed and _is_echo(first)):
        return _error(first)
    if _is_out_of_memory(log_tail):
        return EngineUnavailable("The training ran out of memory.", LESS_MEMORY)
    if killed:
        return EngineUnavailable(
            "A training process was killed (signal 9), most often by a machine that ran out of memory.", LESS_MEMORY
        )
    return EngineUnavailable(
        f"The training ended with status {status}: {_last_line(log_tail)}", "See the worker's log."
    )


def _error(gone: Gone) -> OverproofError:
    kind = getattr(errors, gone.kind, None)
    if isinstance(kind, type) and issubclass(kind, OverproofError):
        return kind(gone.message, gone.remedy)
    if _is_out_of_memory(gone.message) or _is_out_of_memory(gone.kind):
        return EngineUnavailable(f"The training ran out of memory: {_first_line(gone.message)}", LESS_MEMORY)
    return EngineUnavailable(f"The training broke: {_first_line(gone.message)}", "See the worker's log.")


def _is_echo(gone: Gone) -> bool:
    """Whether a process died of losing another one, which had no time to say why."""
    return not hasattr(errors, gone.kind) and any(sign in gone.message for sign in LOST_PEER)


def _is_out_of_memory(text: str) -> bool:
    return any(sign in text for sign in OUT_OF_MEMORY)


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:MAX_LINE]


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if "rror" in line and line.strip()]
    return (lines or ["it left no message"])[-1][:MAX_LINE]
