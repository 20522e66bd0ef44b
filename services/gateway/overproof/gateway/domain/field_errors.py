"""Errors by field: what pydantic found, said in sentences that name the field and never repeat the value."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from pydantic import BaseModel

from overproof.shared.errors import UserError

MAX_ERRORS = 50
MAX_NAME_CHARS = 100
"""A field's name comes from the sender: enough to find it by, too little to carry anything."""


class FieldError(NamedTuple):
    """One thing to mend."""

    field: str
    """Dotted path; entries of lists are counted from 0."""
    message: str
    remedy: str = ""


class Invalid(UserError):
    """Several things to mend, each with its field."""

    def __init__(self, message: str, remedy: str = "", errors: Sequence[FieldError] = ()) -> None:
        super().__init__(message, remedy)
        self.errors = tuple(errors)


def invalid(what: str, errors: Sequence[FieldError]) -> Invalid:
    """The error for a list of fields; a single one speaks for itself."""
    if len(errors) == 1:
        only = errors[0]
        where = f"{only.field}: " if only.field else ""
        return Invalid(f"{where}{only.message}", only.remedy, errors)
    return Invalid(f"{what} has {len(errors)} errors.", "Mend the fields named in `errors`.", errors)


def field_errors(
    found: Iterable[dict[str, Any]], model: type[BaseModel] | None = None, prefix: str = ""
) -> list[FieldError]:
    """Pydantic's errors in our words, at most MAX_ERRORS; `model` lets an unknown field be compared with the known ones."""
    return [_field_error(error, model, prefix) for error in list(found)[:MAX_ERRORS]]


def _field_error(error: dict[str, Any], model: type[BaseModel] | None, prefix: str) -> FieldError:
    loc = tuple(error["loc"])
    field = ".".join(part for part in (prefix, *(clean(str(part)) for part in loc)) if part)
    if error["type"] == "extra_forbidden":
        return FieldError(field, "There is no such field.", _nearest(loc, model))
    if error["type"] == "missing":
        return FieldError(field, "It is missing.", "Add it.")
    return FieldError(field, _sentence(str(error["msg"])), _REMEDIES.get(error["type"], ""))


_REMEDIES = {
    "string_too_long": "Shorten it.",
    "string_too_short": "Fill it in, or leave it out.",
    "string_type": "Send a text.",
    "too_short": "Add what is missing.",
    "too_long": "Send fewer.",
    "list_type": "Send a list.",
    "enum": "Use one of these.",
}
"""By pydantic's types of errors, where the message says what is wrong and not what to do."""


def _sentence(message: str) -> str:
    text = message.removeprefix("Value error, ")
    text = text[:1].upper() + text[1:]
    return text if text.endswith(".") else f"{text}."


def _nearest(loc: tuple[Any, ...], model: type[BaseModel] | None) -> str:
    """`Did you mean x?`, by the names that the model has at that place."""
    known = _names_at(loc[:-1], model)
    near = difflib.get_close_matches(str(loc[-1])[:MAX_NAME_CHARS], known, n=1)
    if near:
        return f"Did you mean {near[0]}?"
    return f"The fields here are {', '.join(known)}." if known else "Leave it out."


def _names_at(path: tuple[Any, ...], model: type[BaseModel] | None) -> list[str]:
    for name in path:
        if model is None:
            return []
        if isinstance(name, str) and name in model.model_fields:
            model = _model_in(model.model_fields[name].annotation)
    return list(model.model_fields) if model else []


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """The pydantic model inside `X`, `X | None`, `tuple[X, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_model_in(one) for one in getattr(annotation, "__args__", ()))
    return next((one for one in inner if one is not None), None)


def clean(name: str) -> str:
    """A name from outside, without control characters and not long."""
    return re.sub(r"[^\w .,:/@+-]", "?", name[:MAX_NAME_CHARS])
