"""The `overproof` command: an HTTP client of the gateway, and `overproof local`, all services on this machine."""

__version__ = "0.1.0"
