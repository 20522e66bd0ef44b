"""The API's description, completed with what routes read by hand; committed as docs/openapi.json."""

from __future__ import annotations

import json
import sys
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from overproof.gateway.domain.answers import GradeRequest
from overproof.gateway.problem_details import ProblemDetails
from overproof.gateway.routes.runs import RunRequest
from overproof.shared.recipe import Recipe

EXTRA: tuple[type[BaseModel], ...] = (ProblemDetails, RunRequest, Recipe, GradeRequest)

DESCRIPTION = """Distils a large math reasoner into a small, short-spoken one.

A **run** is submitted with a recipe and made by the services behind this door; everything it makes is an **artifact** that can
be fetched by name. Errors are RFC 9457 problems: `detail` is one sentence that names the thing, `remedy` says what to do."""

TAGS = [
    {"name": "runs", "description": "Submit, follow, cancel, pause, resume."},
    {"name": "artifacts", "description": "Tables, checkpoints and reports that runs made."},
    {"name": "datasets", "description": "Uploads of problems, completions, grades or training rows."},
    {"name": "grading", "description": "Judge answers without a run."},
    {"name": "health", "description": "For probes and Prometheus; no key is needed."},
]


def describe(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document; made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=DESCRIPTION, routes=app.routes, tags=TAGS,
        )  # fmt: skip
        _, extra = models_json_schema(
            [(model, "validation") for model in EXTRA], ref_template="#/components/schemas/{model}"
        )
        schemas = document["components"]["schemas"]
        for name, schema in extra["$defs"].items():
            schemas.setdefault(name, schema)
        app.openapi_schema = document
    return app.openapi_schema


def text(app: FastAPI) -> str:
    """As it is committed."""
    return json.dumps(describe(app), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def main() -> None:
    """Write the description to stdout: `python -m overproof.gateway.openapi > docs/openapi.json`."""
    from overproof.gateway.app import create_app
    from overproof.gateway.settings import GatewaySettings

    sys.stdout.write(text(create_app(GatewaySettings(storage="memory://openapi"))))


if __name__ == "__main__":
    main()
