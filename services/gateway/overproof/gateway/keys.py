"""API keys: `ok_<8 hex id>_<secret>`. Only SHA-256 digests are stored; a key has 256 random bits, so no slow hash is needed."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import threading
from pathlib import Path

from overproof.shared.errors import UserError

KEY_PATTERN = re.compile(r"^ok_([0-9a-f]{8})_[A-Za-z0-9_-]{43}$")
LINE_PATTERN = re.compile(r"^([0-9a-f]{8}):([0-9a-f]{64})$")


class KeyFileError(UserError):
    """The list of keys cannot be read or is not one."""


class Unauthorized(UserError):
    """No key, or one that is not in the list."""

    status = 401


class Forbidden(UserError):
    """A request that a browser made on behalf of a foreign page."""

    status = 403


def new_key() -> tuple[str, str]:
    """(the key, its `id:sha256` line)."""
    key_id = secrets.token_hex(4)
    key = f"ok_{key_id}_{secrets.token_urlsafe(32)}"
    return key, f"{key_id}:{hashlib.sha256(key.encode()).hexdigest()}"


def parse_keys(text: str) -> dict[str, str]:
    """Digest by id. Raises KeyFileError that names the entry by its number, never by its content."""
    entries = [entry for line in text.splitlines() for entry in line.partition("#")[0].replace(",", " ").split()]
    found: dict[str, str] = {}
    for number, entry in enumerate(entries, 1):
        match = LINE_PATTERN.match(entry)
        if match is None:
            raise KeyFileError(
                f"API key entry {number} is not of the form id:sha256.", "Make one with `overproof-gateway new-key`."
            )
        found[match[1]] = match[2]
    return found


class KeyRing:
    """The keys that are accepted now; a file of keys is read again when it changes."""

    def __init__(self, text: str, path: Path | None) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int] | None = None
        self._keys = {} if path else parse_keys(text)
        self._reload()

    @property
    def required(self) -> bool:
        """Whether a key is asked for; an empty file of keys locks everybody out rather than letting everybody in."""
        return self._path is not None or bool(self._keys)

    def principal(self, key: str) -> str | None:
        """The id of a valid key, or None."""
        self._reload()
        match = KEY_PATTERN.match(key)
        if match is None:
            return None
        digest = hashlib.sha256(key.encode()).hexdigest()
        known = self._keys.get(match[1], "0" * 64)
        return match[1] if hmac.compare_digest(digest, known) else None

    def _reload(self) -> None:
        if self._path is None:
            return
        try:
            stat = self._path.stat()
            stamp = (stat.st_mtime_ns, stat.st_size)
            with self._lock:
                if stamp != self._stamp:
                    self._keys, self._stamp = parse_keys(self._path.read_text(encoding="utf-8")), stamp
        except (OSError, UnicodeDecodeError) as error:
            raise KeyFileError(
                f"The file of API keys cannot be read: {type(error).__name__}.", "Mend OVERPROOF_API_KEYS_FILE."
            ) from None
