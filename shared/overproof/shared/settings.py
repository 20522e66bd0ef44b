"""Where things are. Environment variables `OVERPROOF_...`; a secret may come from the file that `..._FILE` names."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import AliasChoices, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

SECRETS = ("OVERPROOF_REDIS_URL", "OVERPROOF_API_KEYS")


class Settings(BaseSettings):
    """Settings common to all services. None of them changes a result."""

    model_config = SettingsConfigDict(env_prefix="OVERPROOF_", extra="ignore", populate_by_name=True)

    storage: str = "var/storage"
    """Root of datasets/, artifacts/ and runs/: a folder (or a file:// URL) that every service sees."""
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", validation_alias=AliasChoices("OVERPROOF_REDIS_URL", "REDIS_URL", "redis_url")
    )
    model_root: Path = Path("models")
    """Model folders that recipes may name lie below it."""
    data_root: Path = Path("data")
    """Data files that recipes may name lie below it."""
    allow_hub: bool = False
    """Whether models and data sets may be fetched from the Hugging Face hub."""
    metrics_port: int = Field(0, ge=0, le=65535)
    """Prometheus metrics are served here; 0: not at all."""
    log_level: str = "INFO"
    log_json: bool = False
    lease_seconds: float = Field(30.0, gt=0)
    """A worker that is silent for this long has lost its shard."""
    max_attempts: int = Field(5, ge=1)
    """A shard that was begun this often without an end is reported as failed."""
    concurrency: int = Field(1, ge=1)
    """Shards that one worker process makes at once."""


def read_secret_files() -> None:
    """Put the content of each `<NAME>_FILE` into `<NAME>` unless that is set; call once, before settings are made."""
    for name in SECRETS:
        path = os.environ.get(f"{name}_FILE")
        if path and name not in os.environ:
            os.environ[name] = Path(path).read_text().strip()
