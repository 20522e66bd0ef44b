"""Data sets: upload, list, look."""

from __future__ import annotations

import itertools
import json
from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel, ConfigDict, Field

from overproof.gateway.adapters.uploads import Upload, keep_upload, newest_datasets, receive_upload
from overproof.gateway.bodies import checked
from overproof.gateway.context import Ctx
from overproof.gateway.domain.columns import Table
from overproof.gateway.guard import Principal
from overproof.gateway.views import DatasetView, Page
from overproof.shared.errors import RecipeError

router = APIRouter(tags=["datasets"])

BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {
                        "file": {"type": "string", "format": "binary", "description": ".jsonl, .csv or .parquet"},
                        "name": {"type": "string"},
                        "license": {"type": "string"},
                        "columns": {
                            "type": "string",
                            "description": 'JSON: our column → theirs, {"problem": "question"}',
                        },
                        "table": {
                            "type": "string",
                            "enum": ["problems", "completions", "grades", "selected", "questions"],
                        },
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}


class UploadOptions(BaseModel):
    """What may be said of an upload, as query parameters or as form fields; a form field goes before."""

    model_config = ConfigDict(extra="forbid")
    name: str | None = Field(None, max_length=200)
    """For people; the file's name when it is not given."""
    license: str | None = Field(None, max_length=500)
    columns: dict[str, str] = Field({}, max_length=32)
    """Our column → theirs: only for this check; name them in the recipe's data source too."""
    table: Table = "problems"
    """What the rows are: problems with answers, completions to grade, grades, or rows to train on."""


@router.post(
    "/v1/datasets",
    operation_id="createDataset",
    summary="Upload a data set",
    status_code=201,
    responses={
        201: {
            "links": {
                "dataset": {"operationId": "getDataset", "parameters": {"dataset_id": "$response.body#/dataset_id"}}
            }
        },
        200: {"model": DatasetView, "description": "The same file was uploaded before."},
    },
    openapi_extra=BODY,
)
async def create_dataset(
    request: Request,
    response: Response,
    context: Ctx,
    who: Principal,
    filename: Annotated[
        str | None, Query(max_length=200, description="For a raw body: its name, with the ending.")
    ] = None,
    x_filename: Annotated[str | None, Header(max_length=200, description="The same as a header.")] = None,
    name: Annotated[str | None, Query(max_length=200)] = None,
    license: Annotated[str | None, Query(max_length=500)] = None,
    columns: Annotated[str | None, Query(max_length=4000, description="JSON: our column → theirs.")] = None,
    table: Annotated[Table | None, Query()] = None,
) -> DatasetView:
    """JSONL, CSV or parquet, as `file` of a form or as the raw body. Every row is checked before the data set exists.

    Its id follows from its content: the same file twice is the same data set.
    """
    given: dict[str, Any] = {"name": name, "license": license, "columns": columns, "table": table}
    upload = await receive_upload(request, context, x_filename or filename)
    try:
        options = _options({key: value for key, value in given.items() if value is not None} | upload.fields)
        record, is_new = await run_in_threadpool(_keep, context, upload, options)
    finally:
        await run_in_threadpool(upload.path.unlink, missing_ok=True)
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = f"/v1/datasets/{record.dataset_id}"
    return record


def _options(fields: dict[str, Any]) -> UploadOptions:
    text = fields.get("columns")
    if text:
        try:
            fields["columns"] = json.loads(text)
        except ValueError:
            raise RecipeError("columns: it is not JSON.", 'Send {"problem": "question"}.') from None
    return checked({key: value for key, value in fields.items() if value != ""}, UploadOptions, "The upload")


def _keep(context: Ctx, upload: Upload, options: UploadOptions) -> tuple[DatasetView, bool]:
    record, is_new = keep_upload(
        context, upload, options.table, options.columns, name=options.name, license=options.license
    )
    return DatasetView(**record.model_dump()), is_new


@router.get("/v1/datasets", operation_id="listDatasets", summary="List data sets, newest first")
def list_datasets(
    context: Ctx,
    who: Principal,
    after: Annotated[
        str | None, Query(max_length=64, description="Id of the last data set of the page before.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 20,
) -> Page[DatasetView]:
    """Uploads that passed their check."""
    found = list(itertools.islice(newest_datasets(context.runs, after), limit + 1))
    data = [DatasetView(**one.model_dump()) for one in found[:limit]]
    return Page[DatasetView](data=data, has_more=len(found) > limit)


@router.get("/v1/datasets/{dataset_id}", operation_id="getDataset", summary="Look at a data set")
def get_dataset(context: Ctx, who: Principal, dataset_id: str) -> DatasetView:
    """Rows, bytes, columns, SHA-256, licence."""
    return DatasetView(**context.runs.dataset(dataset_id).model_dump())
