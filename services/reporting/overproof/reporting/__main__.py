"""`python -m overproof.reporting`: serve the queue `reporting` until SIGTERM."""

from __future__ import annotations

from overproof.reporting.app import build
from overproof.reporting.settings import ReportingSettings
from overproof.shared import telemetry
from overproof.shared.settings import read_secret_files
from overproof.shared.topology import Service


def main() -> None:
    """Serve until SIGTERM."""
    read_secret_files()
    settings = ReportingSettings()
    telemetry.configure(settings, Service.REPORTING)
    build(settings).run()


if __name__ == "__main__":
    main()
