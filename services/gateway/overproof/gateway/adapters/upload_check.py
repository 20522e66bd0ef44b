"""Reads an upload for the first time, in a process of its own: what it does to memory or to the parser stays there.

`python -m overproof.gateway.adapters.upload_check <file> <format>` reads its options as JSON from stdin, and writes one
JSON object to stdout: `checked`, or `error` with the class, message and remedy.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from overproof.gateway.domain.columns import Table
from overproof.gateway.domain.dataset_check import Checked, Limits, check_dataset
from overproof.gateway.domain.field_errors import FieldError
from overproof.gateway.settings import GatewaySettings
from overproof.shared.errors import DatasetError, TooLarge, UserError
from overproof.shared.formats import Format, rows_in

ERRORS: dict[str, type[UserError]] = {"DatasetError": DatasetError, "TooLarge": TooLarge}
AT_ONCE = threading.BoundedSemaphore(2)
"""Uploads that are read at the same time; each may use `check_memory_bytes`."""
ENVIRONMENT = {
    "ARROW_DEFAULT_MEMORY_POOL": "system",  # the others reserve address space far beyond what they use
    "OMP_NUM_THREADS": "1",
    "ARROW_NUM_THREADS": "1",
    "MALLOC_ARENA_MAX": "2",
}


def check_upload(path: Path, kind: Format, table: Table, columns: dict[str, str], settings: GatewaySettings) -> Checked:
    """What the file holds. Raises DatasetError, TooLarge; a file that exhausts memory or time counts as too large."""
    options = {
        "table": table,
        "columns": columns,
        "rows": settings.max_dataset_rows,
        "chars": settings.max_dataset_chars,
        "memory_bytes": settings.check_memory_bytes,
    }
    command = [sys.executable, "-m", __name__, str(path), kind]
    seconds = settings.check_seconds
    try:
        with AT_ONCE:
            done = subprocess.run(
                command, input=json.dumps(options), capture_output=True, text=True, timeout=seconds, env=_environment(),
                check=False,
            )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise TooLarge(f"The data set could not be read within {seconds:g} seconds.", "Split it.") from None
    return _answer(done.stdout, done.returncode)


def _environment() -> dict[str, str]:
    """Only what Python needs to find the package: the child sees no secret."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "LANG", "TMPDIR") if name in os.environ}
    return kept | ENVIRONMENT


def _answer(output: str, code: int) -> Checked:
    try:
        answer = json.loads(output)
    except ValueError:
        raise TooLarge(
            f"The data set could not be read with the memory that one upload may use (the reader ended with {code}).",
            "Split it, or write it with plain encodings.",
        ) from None
    if "error" in answer:
        raise ERRORS.get(answer["error"], DatasetError)(answer["message"], answer["remedy"])
    errors = [FieldError(*one) for one in answer["errors"]]
    return Checked(answer["rows"], tuple(answer["columns"]), errors, answer["n_errors"])


def main() -> None:
    """The child's side."""
    options = json.load(sys.stdin)
    resource.setrlimit(resource.RLIMIT_AS, (options["memory_bytes"], options["memory_bytes"]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.stdout.write(json.dumps(_check(Path(sys.argv[1]), options)))


def _check(path: Path, options: dict[str, Any]) -> dict[str, Any]:
    kinds: dict[str, Format] = {"jsonl": "jsonl", "csv": "csv", "parquet": "parquet"}
    try:
        with path.open("rb") as file:
            rows = rows_in(file, kinds[sys.argv[2]])
            limits = Limits(options["rows"], options["chars"])
            return check_dataset(rows, options["table"], options["columns"], limits)._asdict()
    except UserError as error:
        return {"error": type(error).__name__, "message": error.message, "remedy": error.remedy}


if __name__ == "__main__":
    main()
