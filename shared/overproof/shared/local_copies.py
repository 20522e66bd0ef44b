"""Copies of an artifact's files on this machine's disk, for libraries that need a real folder where storage is a bucket."""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from overproof.shared.artifacts import Artifacts
from overproof.shared.records import FilePart


def local_copy(artifacts: Artifacts, ref: str, parts: Iterable[FilePart], root: Path) -> Path:
    """The folder `<root>/<ref>` with these parts in it, fetched and checked once; later calls find it there.

    Raises CorruptShard (after setting the part aside in storage) when a file's SHA-256 is not that of its receipt.
    """
    folder = root / ref
    if folder.is_dir():
        return folder
    beside = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    try:
        for part in parts:
            _fetch(artifacts, ref, part, beside / part.name)
        with contextlib.suppress(OSError):  # another worker on this machine was first
            beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return folder


def _fetch(artifacts: Artifacts, ref: str, part: FilePart, to: Path) -> None:
    to.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        artifacts.files.fetch(f"{artifacts.folder(ref)}/{part.name}", to)
        with to.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == part.sha256:
                return
    artifacts.verify(ref, part)  # raises, unless only the copy was damaged
    artifacts.files.fetch(f"{artifacts.folder(ref)}/{part.name}", to)
