"""Where things are; nothing here changes a result."""

from __future__ import annotations

from overproof.shared.settings import Settings


class ReportingSettings(Settings):
    """The settings common to all services are all that reporting needs."""
