"""What a run made: lists, tables, files, the report."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import pyarrow as pa
from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from overproof.gateway.adapters.exports import (
    MEDIA_TYPES,
    Format,
    layout_stream,
    schema_of,
    table_stream,
    wanted_columns,
)
from overproof.gateway.adapters.files import file_response, named_part
from overproof.gateway.context import Context, Ctx
from overproof.gateway.domain.layouts import Layout, layout_for
from overproof.gateway.guard import Principal
from overproof.gateway.views import ArtifactDetail, ArtifactView, Page, artifact_detail, artifact_view
from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import Conflict, NotFound
from overproof.shared.runs import RunStatus

router = APIRouter(tags=["artifacts"])

REPORT_FILES = {"html": "report.html", "json": "report.json", "md": "report.md"}
REPORT_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'unsafe-inline'",  # the page is one file, and narrows this to its own script by a hash
        "style-src 'unsafe-inline'",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "sandbox allow-scripts allow-downloads",  # an origin of its own: no cookie, no storage, no call to this API
    )
)
FILE: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The bytes.",
        "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
    }
}


@router.get("/v1/runs/{run_id}/artifacts", operation_id="listArtifacts", summary="List what a run made")
def list_artifacts(
    context: Ctx,
    who: Principal,
    run_id: str,
    after: Annotated[str | None, Query(max_length=200, description="Name of the last artifact that is known.")] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
) -> Page[ArtifactView]:
    """Artifacts by name, in order of their names, complete or not."""
    artifacts = context.artifacts()
    named = sorted((name, ref) for name, ref in _named(context, run_id).items() if after is None or name > after)
    data = [artifact_view(name, ref, artifacts.manifest(ref), None) for name, ref in named[:limit]]
    return Page[ArtifactView](data=data, has_more=len(named) > limit)


@router.get(
    "/v1/runs/{run_id}/artifacts/{name:path}/files/{file:path}",
    operation_id="getArtifactFile",
    summary="Fetch one file of an artifact",
    response_class=Response,
    responses=FILE,
)
def get_file(context: Ctx, who: Principal, run_id: str, name: str, file: str) -> Response:
    """A file that the artifact's manifest lists (a checkpoint's weights, `report.json`), checked against its SHA-256."""
    artifacts = context.artifacts()
    ref = _ref(context, run_id, name)
    return file_response(artifacts, ref, named_part(artifacts, ref, file))


@router.get(
    "/v1/runs/{run_id}/artifacts/{name:path}",
    operation_id="getArtifact",
    summary="Fetch a table, or look at an artifact",
    response_model=ArtifactDetail,
    responses={200: {"description": "The table as a stream; or the description.", "content": {
        kind: {"schema": {"type": "string", "format": "binary"}} for name, kind in MEDIA_TYPES.items() if name != "json"
    }}},
)  # fmt: skip
def get_artifact(
    context: Ctx,
    who: Principal,
    run_id: str,
    name: str,
    format: Annotated[
        Literal["parquet", "jsonl", "csv", "json"] | None,
        Query(
            description="json: a description with the list of files. Without it: parquet for a table, json otherwise."
        ),
    ] = None,
    columns: Annotated[str | None, Query(max_length=1000, description="Names, separated by commas.")] = None,
    layout: Annotated[
        Layout | None, Query(description="One of the original workflow's line formats instead of our columns.")
    ] = None,
    model: Annotated[
        str | None, Query(max_length=200, description="Layout evaluation: only this model's figures.")
    ] = None,
) -> Response | ArtifactDetail:
    """Tables are streamed: memory stays the same whatever their size."""
    artifacts = context.artifacts()
    ref = _ref(context, run_id, name)
    schema = schema_of(artifacts, ref)
    if layout is not None:
        return _in_layout(context, artifacts, run_id, ref, layout, model)
    if format == "json" or (format is None and schema is None):
        manifest = artifacts.manifest(ref)
        return artifact_detail(artifact_view(name, ref, manifest, None), manifest)
    if schema is None:
        raise _no_table(artifacts, ref)
    return _table(artifacts, ref, schema, format or "parquet", wanted_columns(schema, columns), name)


@router.get(
    "/v1/runs/{run_id}/report",
    operation_id="getReport",
    summary="Read the report",
    response_class=Response,
    responses={200: {"description": "The report.", "content": {
        "text/html": {"schema": {"type": "string"}}, "application/json": {"schema": {"type": "object"}},
        "text/markdown": {"schema": {"type": "string"}},
    }}},
)  # fmt: skip
def get_report(
    context: Ctx, who: Principal, run_id: str, format: Annotated[Literal["html", "json", "md"], Query()] = "html"
) -> Response:
    """One self-contained page (or its figures as JSON, or Markdown). The page can load nothing and call nothing."""
    artifacts = context.artifacts()
    ref = _named(context, run_id).get("report")
    if ref is None or artifacts.manifest(ref) is None:
        raise NotFound(f"Run {run_id} has no report yet.", "Wait until it has succeeded.")
    headers = {"Content-Security-Policy": REPORT_POLICY, "Referrer-Policy": "no-referrer"}
    return file_response(artifacts, ref, named_part(artifacts, ref, REPORT_FILES[format]), inline=True, headers=headers)


def _named(context: Context, run_id: str) -> dict[str, str]:
    status: RunStatus | None = context.runs.status(run_id)
    return status.artifacts if status else {}


def _ref(context: Context, run_id: str, name: str) -> str:
    """By name, or by the reference itself when it is one of this run's. Raises NotFound."""
    named = _named(context, run_id)
    if name in named:
        return named[name]
    if name in named.values():
        return name
    raise NotFound(f"Run {run_id} has no artifact of that name.", f"List them with GET /v1/runs/{run_id}/artifacts.")


def _no_table(artifacts: Artifacts, ref: str) -> Conflict | NotFound:
    if artifacts.manifest(ref) is None:
        return Conflict(f"{ref} is not complete yet.", "Wait for it; the run's stages show how far it is.")
    return NotFound(f"{ref} holds files, not a table.", "List them with format=json, fetch them below /files/.")


def _table(artifacts: Artifacts, ref: str, schema: pa.Schema, kind: Format, names: list[str], title: str) -> Response:
    parts = artifacts.parts(ref)
    whole = names == list(schema.names)
    if kind == "parquet" and whole and len(parts) == 1:
        return file_response(artifacts, ref, parts[0], title=f"{_file_name(title)}.parquet")
    shape = schema if whole else pa.schema([schema.field(name) for name in names])
    stream = table_stream(artifacts.read(ref, schema, columns=names), shape, kind)
    return _attachment(stream, kind, title)


def _in_layout(
    context: Context, artifacts: Artifacts, run_id: str, ref: str, layout: Layout, model: str | None
) -> Response:
    manifest = artifacts.manifest(ref)
    if manifest is None or manifest.schema_name is None:
        raise _no_table(artifacts, ref)
    chosen = layout_for(manifest.schema_name, layout)
    prompt = context.runs.record(run_id).recipe.prompt
    stream, kind = layout_stream(artifacts, ref, chosen, prompt.render, model)
    return _attachment(stream, kind, chosen)


def _attachment(stream: Iterator[bytes], kind: str, title: str) -> Response:
    name = f"{_file_name(title)}.{kind}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    first = next(stream, b"")  # what is wrong with the first part can still become a problem body
    return StreamingResponse(itertools.chain([first], stream), media_type=MEDIA_TYPES[kind], headers=headers)


def _file_name(title: str) -> str:
    return "".join(char if char.isascii() and (char.isalnum() or char in "._-") else "-" for char in title)[:100]
