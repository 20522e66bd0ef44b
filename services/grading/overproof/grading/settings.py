"""Settings of the grading service, on top of the common ones."""

from __future__ import annotations

from pydantic import Field

from overproof.shared.settings import Settings


class GradingSettings(Settings):
    """`OVERPROOF_...`; none of them changes a verdict."""

    pairs_per_child: int = Field(2_000, ge=1)
    """A symbolic child process is replaced after this many comparisons, so that no leak lasts."""
