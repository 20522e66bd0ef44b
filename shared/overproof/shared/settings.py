"""Where things are. Environment variables `OVERPROOF_...`; a secret may come from the file that `..._FILE` names."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Self
from urllib.parse import quote, urlsplit

from pydantic import AliasChoices, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from overproof.shared.errors import UserError

SECRETS = ("OVERPROOF_REDIS_URL", "OVERPROOF_REDIS_PASSWORD", "OVERPROOF_API_KEYS", "OVERPROOF_OPENAI_API_KEY")


class SecretMissing(UserError):
    """The file that should hold a secret cannot be read, or holds nothing."""


class Settings(BaseSettings):
    """Settings common to all services. None of them changes a result."""

    model_config = SettingsConfigDict(env_prefix="OVERPROOF_", extra="ignore", populate_by_name=True)

    storage: str = "var/storage"
    """Root of datasets/, artifacts/ and runs/ that every service sees: a folder (or a file:// URL), or s3://bucket/prefix."""
    redis_url: str = Field(
        "redis://127.0.0.1:6379/0", validation_alias=AliasChoices("OVERPROOF_REDIS_URL", "REDIS_URL", "redis_url")
    )
    redis_password: str = Field("", repr=False)
    """Goes into a `redis_url` that has none, so that a secret file may hold the password alone."""
    model_root: Path = Path("models")
    """Model folders that recipes may name lie below it."""
    data_root: Path = Path("data")
    """Data files that recipes may name lie below it."""
    scratch_root: Path = Path(tempfile.gettempdir()) / "overproof"
    """Local disk for training checkpoints and for copies of models where storage is no folder; it may be lost at any time."""
    allow_hub: bool = False
    """Whether models and data sets may be fetched from the Hugging Face hub."""
    metrics_port: int = Field(0, ge=0, le=65535)
    """Prometheus metrics are served here; 0: not at all."""
    heartbeat_file: Path | None = None
    """Touched while the process is well, for the probe of a container; None: no file."""
    log_level: str = "INFO"
    log_json: bool = False
    lease_seconds: float = Field(30.0, gt=0)
    """A worker that is silent for this long has lost its shard."""
    max_attempts: int = Field(5, ge=1)
    """A shard that was begun this often without an end is reported as failed."""
    concurrency: int = Field(1, ge=1)
    """Shards that one worker process makes at once."""

    @model_validator(mode="after")
    def _give_url_its_password(self) -> Self:
        if self.redis_password:
            self.redis_url = with_password(self.redis_url, self.redis_password)
        return self


def with_password(url: str, password: str) -> str:
    """The URL with the password in it, unless it has one already."""
    parts = urlsplit(url)
    if parts.password is not None:
        return url
    place = parts.netloc.rpartition("@")[2]
    return parts._replace(netloc=f"{parts.username or ''}:{quote(password, safe='')}@{place}").geturl()


def read_secret_files() -> None:
    """Put the content of each `<NAME>_FILE` into `<NAME>` unless that is set; call once, before settings are made.

    Raises SecretMissing when such a file cannot be read or is empty.
    """
    for name in SECRETS:
        path = os.environ.get(f"{name}_FILE")
        if path and name not in os.environ:
            os.environ[name] = _secret(name, Path(path))


def _secret(name: str, path: Path) -> str:
    try:
        secret = path.read_text().strip()
    except OSError as error:
        raise SecretMissing(
            f"The secret file {path} cannot be read: {error.strerror}.", f"Provide it, or mend {name}_FILE."
        ) from None
    if not secret and name != "OVERPROOF_API_KEYS":  # no key at all is a choice, and the gateway knows what follows
        raise SecretMissing(f"The secret file {path} is empty.", f"Write the secret into it, or mend {name}_FILE.")
    return secret
