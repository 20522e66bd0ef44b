"""Where the pipeline's things are, and how often it looks."""

from __future__ import annotations

from pydantic import Field

from overproof.shared.settings import Settings


class PipelineSettings(Settings):
    """Settings of the pipeline."""

    reconcile_seconds: float = Field(2.0, gt=0)
    """The pipeline looks at every run at least this often, whatever the messages say."""
    debounce_seconds: float = Field(0.3, ge=0)
    """And at most this often, however many shards are done."""
    concurrency: int = Field(2, ge=1)
    """Data sets that are prepared at once."""
