"""Runs: submit, list, look."""

from __future__ import annotations

import hashlib
import itertools
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from overproof.gateway.adapters.binding import bind
from overproof.gateway.adapters.live import with_live
from overproof.gateway.adapters.run_list import newest_first
from overproof.gateway.adapters.submissions import KnownRequest, resumed, submit
from overproof.gateway.bodies import JSON, YAML, checked, media_type, parsed, read_body
from overproof.gateway.context import Context, Ctx
from overproof.gateway.domain.binding import warnings
from overproof.gateway.guard import Principal
from overproof.gateway.views import Page, RunAccepted, RunSummary, RunView, Validated, accepted, run_view, summary
from overproof.shared.recipe import Recipe
from overproof.shared.runs import RunRecord

router = APIRouter(tags=["runs"])

MAX_METADATA = 16
Short = Annotated[str, Field(max_length=512)]


class Metadata(BaseModel):
    """Checked apart from the recipe, so that each error keeps its field's name."""

    metadata: dict[Annotated[str, Field(max_length=64)], Short] = Field({}, max_length=MAX_METADATA)
    """Notes of the sender; shown again, and used for nothing."""


class RunRequest(Metadata):
    """Body of `POST /v1/runs`."""

    model_config = ConfigDict(extra="forbid")
    recipe: Recipe
    """What to compute."""


EXAMPLE: dict[str, Any] = {
    "recipe": {
        "name": "demo",
        "data": {
            "train": {"generator": "demo-math", "split": "train", "n": 2000},
            "test": {"generator": "demo-math", "split": "test", "n": 300},
        },
        "models": {"teacher": "demo/teacher", "student": "demo/base"},
        "engine": {"kind": "transformers"},
        "selection": [{"policy": "shortest"}, {"policy": "all"}],
    },
    "metadata": {"asked_by": "docs"},
}
BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            JSON: {"schema": {"$ref": "#/components/schemas/RunRequest"}, "example": EXAMPLE},
            YAML[0]: {"schema": {"$ref": "#/components/schemas/Recipe"}},
        },
    }
}
LINKS: dict[str, Any] = {
    "links": {
        name: {"operationId": operation, "parameters": {"run_id": "$response.body#/id"}}
        for name, operation in (
            ("run", "getRun"),
            ("events", "listEvents"),
            ("artifacts", "listArtifacts"),
            ("report", "getReport"),
            ("cancel", "cancelRun"),
            ("pause", "pauseRun"),
            ("resume", "resumeRun"),
        )
    },
    "headers": {"Location": {"description": "Where the run is.", "schema": {"type": "string"}}},
}


@router.post(
    "/v1/runs",
    operation_id="createRun",
    summary="Submit a run",
    status_code=201,
    response_model=RunAccepted | Validated,
    responses={
        201: LINKS | {"model": RunAccepted},
        200: {"model": Validated, "description": "Dry run: nothing was written."},
    },
    openapi_extra=BODY,
)
async def create_run(
    request: Request,
    response: Response,
    context: Ctx,
    who: Principal,
    idempotency_key: Annotated[str | None, Header(min_length=1, max_length=255)] = None,
    dry_run: Annotated[bool, Query(description="Check and resolve everything, write nothing.")] = False,
) -> RunAccepted | Validated:
    """Everything is checked before anything is written: the recipe, the models, the data sets.

    With an `Idempotency-Key`, the same request gets the same run and the same answer, however often it is sent.
    """
    body = await read_body(request, context.settings.max_recipe_bytes)
    kind = media_type(request)
    if dry_run:
        response.status_code = 200
        return await run_in_threadpool(_validate, context, body, kind)
    known = KnownRequest(context, who, idempotency_key) if idempotency_key else None
    record = await run_in_threadpool(_submit, context, body, kind, known)
    response.headers["Location"] = f"/v1/runs/{record.run_id}"
    return accepted(record, warnings(record.recipe, record.bindings))


def _read(body: bytes, kind: str) -> tuple[Recipe, dict[str, str]]:
    """The recipe and the metadata: YAML is the recipe alone, JSON holds both."""
    value = parsed(body, kind)
    if kind != JSON:
        return checked(value, Recipe, "The recipe"), {}
    asked = checked(value, RunRequest, "The request")
    return asked.recipe, asked.metadata


def _validate(context: Context, body: bytes, kind: str) -> Validated:
    recipe, _ = _read(body, kind)
    bindings = bind(recipe, context)
    return Validated(recipe=recipe, bindings=bindings, warnings=warnings(recipe, bindings))


def _submit(context: Context, body: bytes, kind: str, known: KnownRequest | None) -> RunRecord:
    sha256 = hashlib.sha256(kind.encode() + b"\0" + body).hexdigest()
    if known is not None and (record := known.record(sha256)) is not None:
        return resumed(context, record)
    recipe, metadata = _read(body, kind)
    return submit(context, recipe, bind(recipe, context), metadata, known, sha256)


@router.get("/v1/runs", operation_id="listRuns", summary="List runs, newest first")
def list_runs(
    context: Ctx,
    who: Principal,
    after: Annotated[str | None, Query(max_length=64, description="Id of the last run of the page before.")] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[RunSummary]:
    """Pages are stable: a run that is submitted meanwhile appears on no later page."""
    records = list(itertools.islice(newest_first(context.runs, after), limit + 1))
    runs = context.runs
    data = [summary(one, runs.status(one.run_id), runs.wanted(one.run_id)) for one in records[:limit]]
    return Page[RunSummary](data=data, has_more=len(records) > limit)


@router.get("/v1/runs/{run_id}", operation_id="getRun", summary="Look at a run")
def get_run(context: Ctx, who: Principal, run_id: str) -> RunView:
    """What was asked, what has become of it, and the live progress of its running stages."""
    runs = context.runs
    view = run_view(runs.record(run_id), runs.status(run_id), runs.wanted(run_id))
    return with_live(view, context)
