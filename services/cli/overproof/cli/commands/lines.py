"""`overproof grade < in.jsonl > out.jsonl`: hands stdin and stdout to the grader's own process."""

from __future__ import annotations

import argparse
import importlib.util
import subprocess
import sys

from overproof.cli.errors import CliError, UsageError

MODULE = "overproof.grading"
REFUSED_FLAGS = ("dataset", "name", "output")


def grade(args: argparse.Namespace) -> int:
    """Verdicts in the order of the lines, as they come. Returns the grader's exit status."""
    if sys.stdin.isatty():
        raise UsageError(
            "There is nothing to grade.",
            "overproof grade --completions FILE, or overproof grade < in.jsonl > out.jsonl",
        )
    for flag in REFUSED_FLAGS:
        if getattr(args, flag, None):
            raise UsageError(f"--{flag} needs --completions.", "overproof grade --workers N < in.jsonl > out.jsonl")
    if importlib.util.find_spec(MODULE) is None:
        raise CliError("The grader is not installed here.", "pip install 'overproof-cli[local]'")
    return subprocess.run(command(args), check=False).returncode


def command(args: argparse.Namespace) -> list[str]:
    """The grader as a process of its own: the command line imports no service."""
    return [sys.executable, "-m", MODULE, "lines", "--workers", str(args.workers), *_options(args)]


def _options(args: argparse.Namespace) -> list[str]:
    given = {"--seconds-per-answer": args.seconds_per_answer, "--decimal-tolerance": args.decimal_tolerance}
    numbers = [word for flag, value in given.items() if value is not None for word in (flag, str(value))]
    return (
        numbers
        + ["--audit"] * args.audit
        + ["--strict"] * bool(args.strict)
        + ["--order-matters"] * bool(args.order_matters)
    )
