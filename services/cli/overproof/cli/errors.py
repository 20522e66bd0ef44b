"""What a command says when it cannot do what was asked: one sentence, the remedy, no traceback."""

from __future__ import annotations


class CliError(Exception):
    """Ends a command. `details` are further lines, such as one per bad field of a recipe."""

    status = 1

    def __init__(self, message: str, remedy: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message, remedy, details)
        self.message = message
        self.remedy = remedy
        self.details = details


class UsageError(CliError):
    """The command line itself is wrong; exits like argparse does."""

    status = 2


class Unreachable(CliError):
    """The gateway does not answer now: worth trying again while a run is watched."""


class Refused(CliError):
    """The gateway answered with a problem body. `code` is the HTTP status."""

    def __init__(self, code: int, message: str, remedy: str = "", details: tuple[str, ...] = ()) -> None:
        super().__init__(message, remedy, details)
        self.code = code
