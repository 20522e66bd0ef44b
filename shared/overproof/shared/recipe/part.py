"""What every part of the recipe is, and the bounds that several share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

MAX_SAMPLES = 1024
"""More completions per problem than this is a mistake in the recipe, not a plan."""

Scalar = str | int | float | bool | None


class Part(BaseModel):
    """A part of the recipe."""

    # an infinite number is not JSON: a recipe that holds one could be written, and not be read again
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
