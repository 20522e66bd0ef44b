"""How a child says why it gave up, and how the worker turns that into one clear sentence."""

from __future__ import annotations

import errno
import json
import re
import shutil
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from overproof.shared import errors
from overproof.shared.errors import EngineUnavailable, OverproofError, StorageUnavailable
from overproof.training.job import write_whole

OUT_OF_MEMORY = ("out of memory", "OutOfMemoryError", "can't allocate memory", "MemoryError", "std::bad_alloc")
LOST_PEER = ("gloo", "NCCL", "Connection reset by peer", "Connection closed by peer", "Broken pipe")
LESS_MEMORY = "Lower training.micro_batch_size or training.max_length, raise training.zero_stage, or set training.gradient_checkpointing."
FULL = ("No space left on device", "Disk quota exceeded", "PytorchStreamWriter failed writing", ". unexpected pos ")
"""The last two are torch's words for a file that it could not write to its end."""
ELSEWHERE = "/dev/shm"  # noqa: S108 - only looked for in messages
"""A full one is NCCL's trouble: it is memory, and no space on the disk helps."""
MORE_SPACE = "Free some space there; the training goes on by itself from its last checkpoint."
NOTHING_FREE = 2**20
"""Bytes. A training that ends without a word where less is free most likely found no room for it: its log lies there too."""
MARK = "overproof-gave-up: "
"""Begins the line of a child that could not leave a file."""
MAX_LINE = 300
RANK = re.compile(r"^\[rank\d+\]:\s*")
"""torch begins the lines of a traceback so."""
RAISED = re.compile(r"^\w+(\.\w+)*(Error|Exception): \S")
"""The last line of a traceback."""
NOISE = (
    "error_file",
    "traceback :",
    'File "',
    "torch.distributed.elastic.",
    "raise ChildFailedError(",
    "For further information",
)
"""Lines that speak of errors and say nothing of this one: torchrun's summary and its own traceback, pydantic's links."""  # fmt: skip


class Gone(NamedTuple):
    """What a child left behind."""

    kind: str
    message: str
    remedy: str
    at: float
    """Unix seconds: the first rank to fail is the cause, the others lose their connection to it."""


@contextmanager
def reported(scratch: Path, rank: int) -> Iterator[None]:
    """Leave `error-<rank>.json` when the block raises, or one marked line in the log where the disk takes no file; the exception goes on,
    and its traceback into the log."""
    try:
        yield
    except Exception as error:
        mine = error if isinstance(error, OverproofError) else None
        message = mine.message if mine else "".join(traceback.format_exception_only(error)).strip()
        gone = json.dumps(Gone(type(error).__name__, message, mine.remedy if mine else "", time.time())._asdict())
        try:
            write_whole(scratch / f"error-{rank}.json", gone)
        except OSError:
            with suppress(OSError):  # the log may lie on the same full disk
                print(MARK + gone, file=sys.stderr, flush=True)  # noqa: T201 - the worker reads it
        raise


@contextmanager
def full_disk_named(scratch: Path) -> Iterator[None]:
    """Raises StorageUnavailable, with what is free, for an OSError of the block that says that there is no space; others go on."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _cannot_write(scratch, str(error)) from error


def forget(scratch: Path) -> None:
    """Remove what an earlier attempt left."""
    for pattern in ("error-*.json", ".error-*.tmp"):
        for path in scratch.glob(pattern):
            path.unlink()


def final(scratch: Path) -> OverproofError | None:
    """What another attempt would die of too, if a process has left such an error."""
    if not any(scratch.glob("error-*.json")):
        return None
    found = explain(scratch, 1, "")
    return None if found.retryable else found


def explain(scratch: Path, status: int, log_tail: str) -> OverproofError:
    """The error of a child that ended with `status` (negative: killed by that signal): what it left says, else its log, else the disk."""
    first = min(_left(scratch, log_tail), key=lambda gone: (not hasattr(errors, gone.kind), gone.at), default=None)
    killed = "Signal 9" in log_tail or "SIGKILL" in log_tail or status == -9
    if first and not (killed and _is_echo(first)):
        return _error(scratch, first)
    if _is_out_of_memory(log_tail):
        return EngineUnavailable("The training ran out of memory.", LESS_MEMORY)
    if killed:
        return EngineUnavailable(
            "A training process was killed (signal 9), most often by a machine that ran out of memory.", LESS_MEMORY
        )
    said = _last_error(log_tail)
    if full := full_disk(scratch, said or "it left no message"):
        return full
    return EngineUnavailable(
        f"The training ended with status {status}: {said or 'it left no message'}", "See the worker's log."
    )


def full_disk(scratch: Path, said: str) -> StorageUnavailable | None:
    """The error of a training that ended with these words, when they or the disk itself say that there was no room for more."""
    return _cannot_write(scratch, said) if _is_full(said) or _free(scratch) < NOTHING_FREE else None


def _left(scratch: Path, log_tail: str) -> Iterator[Gone]:
    for path in scratch.glob("error-*.json"):
        yield Gone(**json.loads(path.read_text()))
    for line in log_tail.splitlines():
        if line.startswith(MARK):
            with suppress(ValueError):  # cut short, as the disk is full
                yield Gone(**json.loads(line.removeprefix(MARK)))


def _error(scratch: Path, gone: Gone) -> OverproofError:
    kind = getattr(errors, gone.kind, None)
    if isinstance(kind, type) and issubclass(kind, OverproofError):
        return kind(gone.message, gone.remedy)
    if _is_full(gone.message):
        return _cannot_write(scratch, gone.message)
    if _is_out_of_memory(gone.message) or _is_out_of_memory(gone.kind):
        return EngineUnavailable(f"The training ran out of memory: {_first_line(gone.message)}", LESS_MEMORY)
    return EngineUnavailable(f"The training broke: {_first_line(gone.message)}", "See the worker's log.")


def _cannot_write(scratch: Path, said: str) -> StorageUnavailable:
    return StorageUnavailable(
        f"The training could not write to {scratch}, where {_free(scratch):,} bytes are free: {_first_line(said)}",
        MORE_SPACE,
    )


def _free(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def _is_echo(gone: Gone) -> bool:
    """Whether a process died of losing another one, which had no time to say why."""
    return not hasattr(errors, gone.kind) and any(sign in gone.message for sign in LOST_PEER)


def _is_out_of_memory(text: str) -> bool:
    return any(sign in text for sign in OUT_OF_MEMORY)


def _is_full(text: str) -> bool:
    return ELSEWHERE not in text and any(sign in text for sign in FULL)


def _first_line(text: str) -> str:
    return text.partition("\n")[0][:MAX_LINE]


def _last_error(text: str) -> str | None:
    """The log's last line that names an error, the end of a traceback before any other."""
    lines = [RANK.sub("", line.strip()) for line in text.splitlines()]
    telling = [line for line in lines if "rror" in line and not line.startswith(NOISE)]
    raised = [line for line in telling if RAISED.match(line)]
    return next((line[:MAX_LINE] for line in reversed(raised or telling)), None)
