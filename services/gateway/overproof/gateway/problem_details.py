"""Errors over HTTP: RFC 9457 problem bodies. No traceback, no echo of what was sent."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from overproof.gateway.domain.field_errors import FieldError, Invalid, field_errors, invalid
from overproof.shared.errors import OverproofError

log = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = "5"


class FieldProblem(BaseModel):
    """One field to mend."""

    field: str
    """Dotted path in the body, a query parameter, or `line 17, answer` of an upload."""
    message: str
    remedy: str | None = None


class ProblemDetails(BaseModel):
    """RFC 9457 problem: what went wrong, and what to do about it."""

    type: str
    """`urn:overproof:error:<kind>`: stable, for programs."""
    title: str
    status: int
    detail: str
    """One sentence that names the thing."""
    remedy: str | None = None
    request_id: str
    errors: list[FieldProblem] | None = None


class ServiceTimeout(OverproofError):
    """Another service did not answer in time."""

    retryable = True
    status = 504


class Unsupported(OverproofError):
    """A media type that is not understood."""

    status = 415


class Busy(OverproofError):
    """As many requests of this kind are under way as the settings allow."""

    retryable = True
    status = 503


def problem(
    request: Request, status: int, kind: str, detail: str, remedy: str = "", errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> JSONResponse:  # fmt: skip
    """A problem body as a response."""
    body = ProblemDetails(
        type=f"urn:overproof:error:{kind}",
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        remedy=remedy or None,
        request_id=str(request.scope.get("state", {}).get("request_id", "")),
        errors=[FieldProblem(field=one.field, message=one.message, remedy=one.remedy or None) for one in errors]
        or None,
    )
    return JSONResponse(body.model_dump(exclude_none=True), status, headers=dict(headers or {}), media_type=MEDIA_TYPE)


def kind_of(error: type[Exception]) -> str:
    """`DatasetError` → `dataset`, `TooLarge` → `too-large`: stable names for programs."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "-", error.__name__).lower()
    return words.removesuffix("-error")


async def on_overproof_error(request: Request, error: Exception) -> JSONResponse:
    """An error raised on purpose: its own sentence, remedy and status."""
    assert isinstance(error, OverproofError)  # noqa: S101  (the registration below says so)
    headers = {"Retry-After": RETRY_SECONDS} if error.retryable else {}
    if error.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        log.warning("%s", error, extra={"request_id": request.scope.get("state", {}).get("request_id", "")})
    errors = error.errors if isinstance(error, Invalid) else ()
    return problem(request, error.status, kind_of(type(error)), error.message, error.remedy, errors, headers)


async def on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    """A path or query parameter out of range."""
    assert isinstance(error, RequestValidationError)  # noqa: S101
    found = [dict(one) | {"loc": one["loc"][1:]} for one in error.errors()]
    return await on_overproof_error(request, invalid("The request", field_errors(found)))


async def on_http_error(request: Request, error: Exception) -> JSONResponse:
    """What the framework refuses: an unknown route, a wrong method."""
    assert isinstance(error, HTTPException)  # noqa: S101
    phrase = HTTPStatus(error.status_code).phrase
    kind = phrase.lower().replace(" ", "-")
    return problem(
        request, error.status_code, kind, f"{phrase}.", "The routes are listed in /openapi.json.", (), error.headers
    )


def broken(request: Request) -> JSONResponse:
    """A mistake of ours: the log has the traceback, under the request's id."""
    return problem(
        request, 500, "internal", "The gateway failed at this request.", "Look for the request id in its log."
    )


def add_handlers(app: FastAPI) -> None:
    """Make every error of the application a problem body."""
    app.add_exception_handler(OverproofError, on_overproof_error)
    app.add_exception_handler(RequestValidationError, on_invalid_request)
    app.add_exception_handler(HTTPException, on_http_error)


RESPONSES: dict[int | str, dict[str, Any]] = {
    code: {
        "description": text,
        "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/ProblemDetails"}}},
    }
    for code, text in (("4XX", "The asker can mend it: see `detail` and `remedy`."), ("5XX", "Try again later."))
}
"""For every route: what its errors look like."""
