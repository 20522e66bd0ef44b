"""Files of artifacts as responses: only what a manifest lists, only when its SHA-256 is right."""

from __future__ import annotations

import mimetypes
from collections.abc import Iterator, Mapping

from fastapi.responses import FileResponse, Response, StreamingResponse

from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import Conflict, NotFound
from overproof.shared.records import FilePart

CHUNK_BYTES = 1 << 18
OURS = {"md": "text/markdown", "parquet": "application/vnd.apache.parquet", "jsonl": "application/x-ndjson"}
SHOWN = frozenset({"text/html", "application/json", "text/markdown"})


def named_part(artifacts: Artifacts, ref: str, name: str) -> FilePart:
    """The file of that name in the manifest of a complete artifact. Raises NotFound, Conflict."""
    manifest = artifacts.manifest(ref)
    if manifest is None:
        raise Conflict(f"{ref} is not complete yet.", "Wait for it; the run's stages show how far it is.")
    for part in manifest.parts:
        if part.name == name:
            return part
    raise NotFound(f"{ref} has no file of that name.", "List its files with format=json.")


def file_response(
    artifacts: Artifacts,
    ref: str,
    part: FilePart,
    *,
    inline: bool = False,
    title: str | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The file, with its size and SHA-256. Raises CorruptShard when it is damaged.

    Anything that a browser might run is an attachment unless `inline` (then the caller gives the policy that tames it).
    """
    artifacts.verify(ref, part)
    path = f"{artifacts.folder(ref)}/{part.name}"
    kind = _media_type(part.name, inline=inline)
    sent = {"ETag": f'"{part.sha256}"'} | dict(headers or {})
    name = title or part.name.rpartition("/")[2]
    if artifacts.files.is_local:
        disposition = "inline" if inline else "attachment"
        return FileResponse(
            artifacts.files.local(path),
            media_type=kind,
            filename=name,
            content_disposition_type=disposition,
            headers=sent,
        )
    sent |= {"Content-Length": str(part.bytes)}
    if not inline:
        sent["Content-Disposition"] = f'attachment; filename="{name}"'
    return StreamingResponse(_chunks(artifacts, path), media_type=kind, headers=sent)


def _media_type(name: str, *, inline: bool) -> str:
    guessed = OURS.get(name.rpartition(".")[2]) or mimetypes.guess_type(name)[0]
    if guessed in SHOWN and inline:
        return f"{guessed}; charset=utf-8"
    return "application/octet-stream" if guessed is None or guessed == "text/html" else guessed


def _chunks(artifacts: Artifacts, path: str) -> Iterator[bytes]:
    with artifacts.files.open(path) as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
