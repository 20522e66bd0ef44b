"""`overproof-gateway` serves; `overproof-gateway new-key` makes an API key."""

from __future__ import annotations

import argparse
import sys
from types import FrameType

import uvicorn
from pydantic import ValidationError

from overproof.gateway.app import create_app
from overproof.gateway.context import Context
from overproof.gateway.keys import new_key
from overproof.gateway.settings import GatewaySettings
from overproof.shared import telemetry
from overproof.shared.errors import UserError
from overproof.shared.settings import read_secret_files
from overproof.shared.topology import Service

KEEP_ALIVE_SECONDS = 30
BACKLOG = 256
MAX_HEADER_BYTES = 32_768


class Server(uvicorn.Server):
    """Tells streams and `/readyz` of the end before connections are drained."""

    def __init__(self, config: uvicorn.Config, context: Context) -> None:
        super().__init__(config)
        self._context = context

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM or SIGINT."""
        self._context.closing.set()
        super().handle_exit(sig, frame)


def main() -> None:
    """Entry point. A user's mistake ends it with one sentence and status 2."""
    parser = argparse.ArgumentParser(prog="overproof-gateway", description="The HTTP door of Overproof.")
    commands = parser.add_subparsers(dest="command")
    commands.add_parser("serve", help="serve (the default)")
    commands.add_parser("new-key", help="make an API key and the line that lets it in")
    if parser.parse_args().command == "new-key":
        _print_key()
        return
    try:
        read_secret_files()
        _serve(GatewaySettings())
    except UserError as error:
        sys.exit(f"overproof-gateway: {error}")
    except ValidationError as error:
        names = ", ".join(f"OVERPROOF_{'.'.join(map(str, one['loc'])).upper()}: {one['msg']}" for one in error.errors())
        sys.exit(f"overproof-gateway: a setting is out of range ({names}).")


def _serve(settings: GatewaySettings) -> None:
    telemetry.configure(settings, Service.GATEWAY)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=settings.max_connections,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=settings.graceful_seconds,
        backlog=BACKLOG,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
    )
    Server(config, app.state.context).run()


def _print_key() -> None:
    key, line = new_key()
    sys.stdout.write(
        f"key   {key}\nline  {line}\n\nGive the key to its user; it is not stored and cannot be shown again.\n"
        "Add the line to the file that OVERPROOF_API_KEYS_FILE names, or to OVERPROOF_API_KEYS.\n"
    )


if __name__ == "__main__":
    main()
