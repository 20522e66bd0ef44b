"""What a command works with: its output, its gateway, and the environment."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from overproof.cli.client import Gateway
from overproof.cli.local.state import DEFAULT, StateFolder
from overproof.cli.output import Output
from overproof.cli.sources import Sources

DEFAULT_URL = "http://127.0.0.1:8000"

Command = Callable[["Session", argparse.Namespace], int]
"""Returns the exit status."""


@dataclass
class Session:
    """One invocation. `pause` is what a watch does between two looks."""

    output: Output
    pause: Callable[[float], None] = time.sleep
    environ: dict[str, str] = field(default_factory=lambda: dict(os.environ))
    url: str | None = None
    """Goes before the environment; `overproof local` sets it."""

    @cached_property
    def gateway(self) -> Gateway:
        """The gateway that --url, OVERPROOF_URL, or a supervisor running in this folder names."""
        return Gateway(self.url or self.default_url(), self.environ.get("OVERPROOF_API_KEY"))

    @cached_property
    def sources(self) -> Sources:
        """Names of data sets."""
        return Sources(self.gateway, self.output)

    def default_url(self) -> str:
        """Where the gateway is when nobody says so."""
        return self.environ.get("OVERPROOF_URL") or StateFolder(Path(DEFAULT)).url() or DEFAULT_URL
