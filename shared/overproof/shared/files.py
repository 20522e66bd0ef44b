"""Bytes in storage: a local or mounted folder, or a bucket (`s3://bucket/prefix`).

Three promises, on which everything above rests: a file appears whole or not at all; `create` is exclusive (the first
writer wins and the others learn it); a local file is on the disk before its name exists.

In a bucket the first two are the server's: one PUT is atomic, and `If-None-Match: *` makes it exclusive. The server must
know that condition (AWS, Ceph, MinIO, SeaweedFS do). Where the bucket is and who asks stands in the usual `AWS_...` variables.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from overproof.shared.errors import StorageUnavailable

REMOTE_OPTIONS: dict[str, dict[str, Any]] = {
    "s3": {
        "use_listings_cache": False,  # others write to the same folders
        "config_kwargs": {
            "retries": {"mode": "standard", "max_attempts": 6},
            "connect_timeout": 5,
            "read_timeout": 60,
            "max_pool_connections": 32,
        },
    }
}
"""By protocol: what the file system is opened with."""
REMOTE_LIBRARIES = {"botocore", "aiobotocore", "aiohttp"}
"""Their errors are no OSErrors, but mean the same."""

ADVICE = {
    errno.ENOSPC: "The storage is full; free some space, work goes on by itself.",
    errno.EROFS: "The storage is read-only; mount it writable.",
    errno.EACCES: "The storage may not be written by this user; give it the permission.",
    errno.EDQUOT: "The storage quota is used up; raise it.",
}
COPY_BYTES = 8 * 2**20
UNREACHABLE = "Check that the storage is reachable and writable."


@contextlib.contextmanager
def _named_errors(path: str) -> Iterator[None]:
    """Turn the disk's own errors into StorageUnavailable with a remedy; a missing file stays FileNotFoundError."""
    try:
        yield
    except (FileNotFoundError, FileExistsError):
        raise
    except OSError as error:
        remedy = ADVICE.get(error.errno or 0, UNREACHABLE)
        raise StorageUnavailable(f"Storage failed at {path}: {error.strerror or error}.", remedy) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in REMOTE_LIBRARIES:
            raise
        raise StorageUnavailable(f"Storage failed at {path}: {error}.", UNREACHABLE) from error


class Files:
    """Files below one root. Paths are relative, with `/`."""

    def __init__(self, url: str) -> None:
        protocol = url.partition("://")[0]
        try:
            self._fs, root = fsspec.core.url_to_fs(url, **REMOTE_OPTIONS.get(protocol, {}))
        except ImportError as error:
            raise StorageUnavailable(
                f"{protocol}:// storage needs a library that is not installed: {error}.",
                "pip install 'overproof-shared[s3]', or set OVERPROOF_STORAGE to a folder.",
            ) from error
        self.root = str(root).rstrip("/")
        self.is_local = isinstance(self._fs, LocalFileSystem)
        self.url = self.root if self.is_local else f"{protocol}://{self.root}"
        """Opens the same storage in another process."""

    def full(self, path: str) -> str:
        """The path as the file system knows it. Raises ValueError for one that leaves the root."""
        if path.startswith("/") or ".." in path.split("/"):
            raise ValueError(f"{path!r} leaves the storage root")
        return f"{self.root}/{path}"

    def local(self, path: str) -> Path:
        """A path for libraries that need a real folder. Raises StorageUnavailable where storage is remote."""
        if not self.is_local:
            raise StorageUnavailable(f"{path} is not on a local file system.", "Mount the storage as a folder.")
        return Path(self.full(path))

    def exists(self, path: str) -> bool:
        with _named_errors(path):
            return bool(self._fs.exists(self.full(path)))

    def names(self, folder: str) -> list[str]:
        """Names of the entries of a folder, sorted; an empty list when there is none."""
        with _named_errors(folder):
            try:
                if self.is_local:
                    return sorted(os.listdir(self.full(folder)))
                return sorted(
                    str(entry).rstrip("/").rpartition("/")[2] for entry in self._fs.ls(self.full(folder), detail=False)
                )
            except (FileNotFoundError, NotADirectoryError):
                return []

    def open(self, path: str) -> BufferedReader:
        """For reading. Raises FileNotFoundError."""
        with _named_errors(path):
            return self._fs.open(self.full(path), "rb")  # type: ignore[no-any-return]

    def read(self, path: str) -> bytes:
        """The whole file. Raises FileNotFoundError."""
        with self.open(path) as file:
            return file.read()

    def read_json(self, path: str) -> Any:
        """The file's JSON value. Raises FileNotFoundError."""
        return json.loads(self.read(path))

    def size(self, path: str) -> int:
        """Bytes. Raises FileNotFoundError."""
        with _named_errors(path):
            return int(self._fs.size(self.full(path)))

    def create(self, path: str, content: bytes) -> bool:
        """Write the file unless it exists. Returns whether this call wrote it."""
        with _named_errors(path):
            if not self.is_local:
                return self._create_remote(path, content)
            temporary = self._write_beside(path, content)
            try:
                os.link(temporary, self.full(path))
            except FileExistsError:
                return False
            finally:
                os.unlink(temporary)
            _sync_folder(os.path.dirname(self.full(path)))
            return True

    def put(self, path: str, content: bytes) -> None:
        """Write the file, whole, over whatever was there."""
        with _named_errors(path):
            if not self.is_local:
                self._fs.pipe_file(self.full(path), content)
                return
            os.replace(self._write_beside(path, content), self.full(path))

    def create_json(self, path: str, value: object) -> bool:
        """As `create`."""
        return self.create(path, _json_bytes(value))

    def put_json(self, path: str, value: object) -> None:
        """As `put`."""
        self.put(path, _json_bytes(value))

    def adopt(self, temporary: Path, path: str) -> None:
        """Move a finished local file into storage under its final name (which only its writer knows yet)."""
        with _named_errors(path):
            if not self.is_local:
                self._fs.put_file(str(temporary), self.full(path))
                temporary.unlink()
                return
            os.makedirs(os.path.dirname(self.full(path)), exist_ok=True)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(temporary, self.full(path))
            _sync_folder(os.path.dirname(self.full(path)))

    def fetch(self, path: str, to: Path) -> None:
        """Copy a file to a local path, piece by piece. Raises FileNotFoundError."""
        with _named_errors(path), self.open(path) as file, to.open("wb") as copy:
            shutil.copyfileobj(file, copy, COPY_BYTES)

    def move(self, path: str, to: str) -> None:
        """Rename within storage; does nothing when the file is already gone."""
        with _named_errors(path), contextlib.suppress(FileNotFoundError):
            self._fs.mv(self.full(path), self.full(to))

    def delete(self, path: str) -> None:
        """Delete a file; does nothing when it is already gone."""
        with _named_errors(path), contextlib.suppress(FileNotFoundError):
            self._fs.rm_file(self.full(path))

    def temporary(self, folder: str) -> Path:
        """A new local path to write to before `adopt`: in the same file system when storage is local."""
        base = Path(self.full(folder)) if self.is_local else Path(os.environ.get("TMPDIR", "/tmp"))  # noqa: S108
        with _named_errors(folder):
            base.mkdir(parents=True, exist_ok=True)
        return base / f".{secrets.token_hex(8)}.tmp"

    def _write_beside(self, path: str, content: bytes) -> str:
        temporary = str(self.temporary(path.rpartition("/")[0]))
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        return temporary

    def _create_remote(self, path: str, content: bytes) -> bool:
        try:
            self._fs.pipe_file(self.full(path), content, mode="create")
        except FileExistsError:
            return False
        except OSError as error:
            if not _lost_the_race(error):
                raise
            return False
        return True


def _lost_the_race(error: OSError) -> bool:
    """Whether the server refused `If-None-Match`: s3fs gives FileExistsError only to some of these refusals."""
    answer = getattr(error.__cause__, "response", None) or {}
    return answer.get("Error", {}).get("Code") in ("PreconditionFailed", "ConditionalRequestConflict")


def _json_bytes(value: object) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False, sort_keys=True).encode()


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
