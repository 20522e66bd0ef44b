"""The parser, and the one place where an error becomes an exit status."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from overproof.cli import __version__
from overproof.cli.commands import doctor, files, local, parts, runs
from overproof.cli.errors import CliError
from overproof.cli.output import Output
from overproof.cli.session import Command, Session

EPILOG = """\
environment:
  OVERPROOF_URL       where the gateway is (default: the services that run from var/, else http://127.0.0.1:8000)
  OVERPROOF_API_KEY   sent with every request
exit status: 0 done, 1 refused or failed, 2 a wrong command line, 130 interrupted
"""
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


class Registry:
    """`add` of the command modules."""

    def __init__(self, subparsers: Any) -> None:
        self._subparsers = subparsers
        self.flags = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
        self.flags.add_argument("--json", action="store_true", help="JSON on stdout, for programs")
        self.flags.add_argument("--url", help="of the gateway")

    def __call__(self, name: str, what: str, command: Command | None) -> argparse.ArgumentParser:
        """A new command; one with commands of its own has None here."""
        parents = [self.flags] if command else []
        parser: argparse.ArgumentParser = self._subparsers.add_parser(
            name, help=what, description=what, parents=parents
        )
        if command:
            parser.set_defaults(command=command)
        return parser


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    root = argparse.ArgumentParser(
        prog="overproof",
        description="Distil long-winded math reasoners into short, accurate students, and prove it.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    root.add_argument("--version", action="version", version=f"overproof {__version__}")
    add = Registry(root.add_subparsers(required=True, metavar="COMMAND"))
    for module in (runs, files, parts, doctor, local):
        module.register(add)
    return root


def main(argv: list[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    args = parser().parse_args(argv)
    output = Output(as_json=getattr(args, "json", False))
    return invoke(Session(output, url=getattr(args, "url", None)), args)


def invoke(session: Session, args: argparse.Namespace) -> int:
    """The command with its errors turned into words and an exit status."""
    try:
        return int(args.command(session, args))
    except CliError as error:
        session.output.error(error)
        return error.status
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:  # `overproof ls | head`
        sys.stderr.close()
        return EXIT_BROKEN_PIPE


if __name__ == "__main__":
    sys.exit(main())
