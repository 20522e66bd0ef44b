"""What a check of `overproof doctor` comes to."""

from __future__ import annotations

from typing import Literal, NamedTuple

State = Literal["ok", "bad", "note"]


class Finding(NamedTuple):
    """One line: `state` is ok, bad (the exit status is 1) or note (worth knowing)."""

    subject: str
    state: State
    message: str
    remedy: str = ""
