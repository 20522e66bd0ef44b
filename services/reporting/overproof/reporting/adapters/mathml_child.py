"""The converter's own process: a JSON list of formulas on stdin, one JSON line each on stdout (MathML, or null)."""

from __future__ import annotations

import json
import resource
import sys

from latex2mathml.converter import convert

MEMORY_BYTES = 512 * 2**20
CPU_SECONDS = 30


def main() -> None:
    """Convert until stdin's list ends."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    for formula in json.load(sys.stdin):
        sys.stdout.write(json.dumps(mathml_of(formula)) + "\n")
        sys.stdout.flush()


def mathml_of(formula: str) -> str | None:
    """None for what the converter cannot read: it raises errors of many kinds on what models write."""
    try:
        return str(convert(formula))
    except Exception:
        return None


if __name__ == "__main__":
    main()
