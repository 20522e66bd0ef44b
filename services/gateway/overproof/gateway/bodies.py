"""Request bodies: counted while they arrive, parsed strictly, checked by a pydantic model."""

from __future__ import annotations

from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json
from starlette.requests import Request
from yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent
from yaml.nodes import MappingNode

from overproof.gateway.domain.field_errors import FieldError, field_errors, invalid
from overproof.gateway.problem_details import Unsupported
from overproof.shared.errors import RecipeError, TooLarge

M = TypeVar("M", bound=BaseModel)

JSON = "application/json"
MAX_DEPTH = 32
"""The scanner's cost grows with the square of the depth."""

YAML = ("application/yaml", "application/x-yaml", "text/yaml")


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body. Raises TooLarge as soon as it is longer than `limit` bytes, declared or not."""
    refuse_declared(request, limit)
    chunks: list[bytes] = []
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > limit:
            raise too_large(limit)
        chunks.append(chunk)
    return b"".join(chunks)


def refuse_declared(request: Request, limit: int) -> None:
    """Raises TooLarge when the sender says beforehand that it will send too much."""
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise too_large(limit)


def too_large(limit: int) -> TooLarge:
    return TooLarge(f"The body is larger than {limit} bytes.", "Send less at once.")


def media_type(request: Request) -> str:
    """The body's type without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def parsed(body: bytes, kind: str) -> Any:
    """JSON or YAML as plain values. Raises Unsupported, RecipeError."""
    if kind == JSON:
        return _json(body)
    if kind in YAML:
        return _yaml(body)
    raise Unsupported("The body is neither JSON nor YAML.", "Send Content-Type: application/json or application/yaml.")


def checked(value: Any, model: type[M], what: str, prefix: str = "") -> M:
    """The value as a model. Raises Invalid with one error per field."""
    if not isinstance(value, dict):
        raise invalid(what, [FieldError(prefix, f"{what} is not an object.", "Send fields and values.")])
    try:
        return model.model_validate(value)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False, include_context=False)
        raise invalid(what, field_errors([dict(one) for one in found], model, prefix)) from None


def _json(body: bytes) -> Any:
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise RecipeError(f"The body is not JSON: {error}.", "Send one JSON object in UTF-8.") from None


def _yaml(body: bytes) -> Any:
    try:
        text = body.decode("utf-8")
        _refuse_bombs(text)
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506  (a SafeLoader that refuses doubled keys)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" (line {mark.line + 1}, column {mark.column + 1})" if mark else ""
        reason = f": {error.problem}" if isinstance(error, yaml.constructor.ConstructorError) else ""
        raise RecipeError(f"The body is not YAML{where}{reason}.", "Mend the line.") from None


def _refuse_bombs(text: str) -> None:
    """Raises RecipeError for aliases and deep nesting, at the first one: both cost far more than their bytes."""
    depth = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        if isinstance(event, AliasEvent):
            raise RecipeError("The YAML uses an alias (*name).", "Write the value out.")
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > MAX_DEPTH:
            raise RecipeError(f"The YAML is nested deeper than {MAX_DEPTH} levels.", "A recipe has no more than five.")


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that stands twice in one mapping: the first value would be lost silently."""

    def construct_mapping(self, node: MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key, _ in node.value:
            name = key.value if isinstance(key.value, str) else id(key)
            if name in seen:
                raise yaml.constructor.ConstructorError(None, None, "the key stands there twice", key.start_mark)
            seen.add(name)
        return super().construct_mapping(node, deep)
