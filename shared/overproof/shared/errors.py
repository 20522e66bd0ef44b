"""One error tree; each class answers two questions: is it worth trying again, and which HTTP status is it?

A message is one sentence that names the thing, and `remedy` says what to do. Errors travel as text (a failure record in
storage, a problem body over HTTP), so every class can be rebuilt from its two strings.
"""

from __future__ import annotations


class OverproofError(Exception):
    """Base of all errors that Overproof raises on purpose. Attributes: `message`, `remedy` (may be empty)."""

    retryable = False
    status = 500

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message, remedy)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message} {self.remedy}".strip()


class UserError(OverproofError):
    """The asker can mend it: a recipe, a data set, a model folder, a size."""

    status = 422


class RecipeError(UserError):
    """The recipe is not one: an unknown field, a value out of range, two fields that fight."""


class DatasetError(UserError):
    """Rows that cannot be used: a missing column, an answer that cannot be read, one problem with two answers, leakage."""


class ModelError(UserError):
    """A checkpoint that cannot be used: no tokenizer, no chat template, remote code, too small a context."""


class NotFound(UserError):
    """A run, a data set or an artifact that does not exist."""

    status = 404


class Conflict(UserError):
    """The request fights with what already happened (an idempotency key used for another body, a run already ended)."""

    status = 409


class TooLarge(UserError):
    """More bytes or rows than the settings allow."""

    status = 413


class ArtifactMissing(OverproofError):
    """A file that a manifest promises is not there; the pipeline makes it again."""

    retryable = True
    status = 404


class CorruptShard(OverproofError):
    """A file whose SHA-256 is not the one in its receipt; it has been set aside and will be made again."""

    retryable = True


class StorageUnavailable(OverproofError):
    """The storage folder or bucket cannot be written or read now (full, read-only, gone)."""

    retryable = True
    status = 503


class BrokerUnavailable(OverproofError):
    """Redis does not answer; work that is under way goes on and is announced later."""

    retryable = True
    status = 503


class EngineUnavailable(OverproofError):
    """The inference engine or the trainer died for a reason that may pass (out of memory, a lost device)."""

    retryable = True
    status = 503


class Stopped(OverproofError):
    """The worker was asked to stop, the run was cancelled or paused, or the lease was lost; the shard is not failed."""

    retryable = True
    status = 503


class HandedBack(Stopped):
    """This worker cannot make the shard now, and another one may: the shard is not failed, and this worker pauses."""
