"""Settings of the gateway: where it listens, and its limits."""

from __future__ import annotations

import ipaddress
from pathlib import Path

from pydantic import Field

from overproof.shared.settings import Settings

MEBIBYTE = 2**20


class GatewaySettings(Settings):
    """`OVERPROOF_...`, as for every service, and those below."""

    host: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535)
    api_keys: str = ""
    """`<8 hex id>:<sha256 of the whole key>`, separated by commas or white space."""
    api_keys_file: Path | None = None
    """A file with one `id:sha256` per line, read again whenever it changes; goes before `api_keys`."""

    max_recipe_bytes: int = Field(MEBIBYTE // 4, ge=1024)
    max_upload_bytes: int = Field(256 * MEBIBYTE, ge=1024)
    max_dataset_rows: int = Field(2_000_000, ge=1)
    max_dataset_chars: int = Field(2 * 1024 * MEBIBYTE, ge=1024)
    """Characters of all cells together: what a small compressed file may unfold to."""
    check_memory_bytes: int = Field(1024 * MEBIBYTE, ge=512 * MEBIBYTE)
    """Address space of the process that reads an upload for the first time."""
    check_seconds: float = Field(300, gt=0)
    """Wall-clock budget of that process."""

    max_answers: int = Field(1000, ge=1)
    """Items of one `POST /v1/grade`."""
    max_grade_bytes: int = Field(16 * MEBIBYTE, ge=1024)
    grade_timeout_seconds: float = Field(60, gt=0)
    """How long `POST /v1/grade` waits for the grading service."""

    live_timeout_seconds: float = Field(1.0, gt=0)
    """How long a request waits for Redis before it answers without live progress."""
    max_event_streams: int = Field(64, ge=1)
    max_connections: int = Field(512, ge=1)
    graceful_seconds: int = Field(15, ge=1)
    """After SIGTERM, how long requests under way may still take."""

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the gateway."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False
