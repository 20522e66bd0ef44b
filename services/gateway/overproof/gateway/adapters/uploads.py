"""Uploads: received into storage, checked by another process, then named by their content."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, NamedTuple

from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request

from overproof.gateway.adapters.multipart import UploadParser
from overproof.gateway.adapters.upload_check import check_upload
from overproof.gateway.bodies import media_type, refuse_declared, too_large
from overproof.gateway.context import Context
from overproof.gateway.domain.columns import Table
from overproof.gateway.domain.dataset_check import Checked
from overproof.gateway.domain.field_errors import FieldError, Invalid
from overproof.shared.errors import DatasetError, NotFound, StorageUnavailable
from overproof.shared.formats import format_of
from overproof.shared.runs import DatasetRecord, Runs

ENVELOPE_BYTES = 65_536
"""What a form may add around its file."""


class Upload(NamedTuple):
    """A received file, not yet looked at."""

    path: Path
    filename: str
    n_bytes: int
    fields: dict[str, Any]


async def receive_upload(request: Request, context: Context, filename: str | None) -> Upload:
    """The body as a temporary file in storage; the caller deletes it. Raises TooLarge as soon as it is too long."""
    limit = context.settings.max_upload_bytes
    refuse_declared(request, limit + ENVELOPE_BYTES)
    path = await run_in_threadpool(context.files.temporary, "uploads")
    try:
        with path.open("xb") as target:
            if media_type(request) == "multipart/form-data":
                return await _form(request, path, target, limit)
            return await _raw(request, path, target, limit, filename)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise StorageUnavailable(
            f"The upload cannot be stored: {error.strerror}.", "Free some space, or make the storage writable."
        ) from error
    except BaseException:
        path.unlink(missing_ok=True)
        raise


async def _form(request: Request, path: Path, target: BinaryIO, limit: int) -> Upload:
    parser = UploadParser(request.headers.get("content-type", ""), target, limit)
    async for chunk in request.stream():
        await run_in_threadpool(parser.feed, chunk)
    filename = parser.finish()
    return Upload(path, _base_name(filename), parser.n_bytes, parser.fields)


async def _raw(request: Request, path: Path, target: BinaryIO, limit: int, filename: str | None) -> Upload:
    if not filename:
        raise DatasetError("The upload has no name.", "Send ?filename=problems.jsonl, or a form with a file.")
    n_bytes = 0
    try:
        async for chunk in request.stream():
            n_bytes += len(chunk)
            if n_bytes > limit:
                raise too_large(limit)
            await run_in_threadpool(target.write, chunk)
    except ClientDisconnect:
        raise DatasetError("The upload broke off.", "Send it again.") from None
    return Upload(path, _base_name(filename), n_bytes, {})


def keep_upload(
    context: Context, upload: Upload, table: Table, columns: dict[str, str], *, name: str | None, license: str | None
) -> tuple[DatasetRecord, bool]:
    """(the data set, whether it is new). Raises Invalid with the lines to mend, DatasetError, TooLarge."""
    kind = format_of(upload.filename)
    with upload.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    found = check_upload(upload.path, kind, table, columns, context.settings)
    if found.errors:
        raise _refusal(upload.filename, found)
    record = DatasetRecord(
        dataset_id=f"ds_{sha256[:32]}",
        name=name or upload.filename,
        filename=f"data.{kind}",
        format=kind,
        rows=found.rows,
        bytes=upload.n_bytes,
        sha256=sha256,
        columns=found.columns,
        license=license,
        created_at=time.time(),
    )
    folder = f"datasets/{record.dataset_id}"
    if not context.files.exists(f"{folder}/dataset.json"):
        context.files.adopt(upload.path, f"{folder}/{record.filename}")
    is_new = context.files.create_json(f"{folder}/dataset.json", record.model_dump(mode="json"))
    return context.runs.dataset(record.dataset_id), is_new


def newest_datasets(runs: Runs, after: str | None) -> Iterator[DatasetRecord]:
    """Records, newest first, from the one after `after`. Raises NotFound for an unknown `after`."""
    start = runs.dataset(after) if after else None
    records = [record for name in runs.files.names("datasets") if (record := _record(runs, name)) is not None]
    for record in sorted(records, key=_order, reverse=True):
        if start is None or _order(record) < _order(start):
            yield record


def _record(runs: Runs, name: str) -> DatasetRecord | None:
    """None for an upload that is still being written."""
    try:
        return runs.dataset(name)
    except NotFound:
        return None


def _order(record: DatasetRecord) -> tuple[float, str]:
    return record.created_at, record.dataset_id


def _refusal(filename: str, found: Checked) -> Invalid:
    first = found.errors[0]
    more = f" (the first of {found.n_errors} errors)" if found.n_errors > 1 else ""
    return Invalid(f"{filename}, {first.field}: {first.message}{more}", first.remedy, _listed(found))


def _listed(found: Checked) -> list[FieldError]:
    return found.errors


def _base_name(filename: str) -> str:
    """The last part of whatever path the sender gave, without control characters."""
    name = PurePosixPath(filename.replace("\\", "/")).name
    return re.sub(r"[^\w .,()+-]", "_", name)[:200] or "upload"
