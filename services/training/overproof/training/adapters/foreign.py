"""A student's files and templates are foreign: whatever they break with is the student's fault, said in one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from overproof.shared.errors import ModelError, OverproofError

MAX_REASON = 200
"""Characters of what a library says; some list all they know."""


@contextmanager
def blamed(what: str, remedy: str) -> Iterator[None]:
    """Raises ModelError, `what` with the reason, for whatever the block raises; errors of our own and a full memory stay what they are."""
    try:
        yield
    except (OverproofError, MemoryError):
        raise
    except Exception as error:  # tokenizers and safetensors raise their own kinds, templates and configs any
        raise ModelError(f"{what}: {_reason(error)}", remedy) from error


def _reason(error: Exception) -> str:
    line = next(iter(str(error).strip().splitlines()), "")
    sentence = line.partition(". ")[0].rstrip(".")
    return f"{type(error).__name__}: {sentence}"[:MAX_REASON] + "."
