"""Data sets as people name them on the command line → the recipe's DataSource."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

from overproof.cli.client import Gateway
from overproof.cli.errors import CliError, UsageError
from overproof.cli.output import Output

FILE_SUFFIXES = (".jsonl", ".csv", ".parquet", ".json")
UPLOAD_PATTERN = re.compile(r"^ds_[0-9a-f]{32}$")
ARTIFACT_PATTERN = re.compile(r"^[a-z_]+/[0-9a-f]{32}$")
RUN_ARTIFACT_PATTERN = re.compile(r"^(\d{4}-\d\d-\d\d-[0-9a-f]+):(.+)$")
HUB_PATTERN = re.compile(r"^(?P<hub>[\w.-]+/[\w.-]+)(@(?P<revision>[\w./-]+))?(:(?P<split>[\w-]+))?(:(?P<n>\d+))?$")
WAYS = (
    "Name a local file, an upload (ds_...), demo-math:SPLIT:N, a hub data set (org/name@revision:split), "
    "or RUN:ARTIFACT of an earlier run."
)


class Upload(NamedTuple):
    """What is said of a file that is sent."""

    table: str
    columns: dict[str, str]
    license: str | None


class Sources:
    """Resolves names; a local file is uploaded first."""

    def __init__(self, gateway: Gateway, output: Output) -> None:
        self._gateway = gateway
        self._output = output

    def resolve(
        self, text: str, columns: list[str] | None = None, license: str | None = None, table: str = "problems"
    ) -> dict[str, Any]:
        """The fields of a DataSource. `columns`: `ours=theirs`; `table`: what the rows are, when a file is uploaded."""
        mapped = dict(column(pair) for pair in columns or ())
        source = self._source(text, Upload(table, mapped, license))
        if mapped:
            source["columns"] = mapped
        if license:
            source["license"] = license
        return source

    def _source(self, text: str, upload: Upload) -> dict[str, Any]:
        if UPLOAD_PATTERN.match(text):
            return {"upload": text}
        if ARTIFACT_PATTERN.match(text):
            return {"artifact": text}
        if text.startswith("demo-math"):
            return _generated(text)
        if text.endswith(FILE_SUFFIXES) or Path(text).is_file():
            return {"upload": self._upload(Path(text), upload)}
        if found := RUN_ARTIFACT_PATTERN.match(text):
            return {"artifact": self.artifact(found[1], found[2])}
        if found := HUB_PATTERN.match(text):
            fields: dict[str, Any] = {name: value for name, value in found.groupdict().items() if value}
            return fields | ({"n": int(fields["n"])} if "n" in fields else {})
        raise UsageError(f"{text} is not a data set.", WAYS)

    def _upload(self, path: Path, upload: Upload) -> str:
        if not path.is_file():
            raise CliError(f"There is no file {path}.", WAYS)
        record = self._gateway.upload(path, license=upload.license, table=upload.table, columns=upload.columns)
        self._output.text(f"✓ upload   {path.name}   {record['rows']:,} rows   {record['dataset_id']}")
        return str(record["dataset_id"])

    def artifact(self, run_id: str, name: str) -> str:
        """Reference of a run's artifact: `<stage>/<key>`."""
        named = {item["name"]: item["ref"] for item in self._gateway.artifacts(run_id)}
        if name not in named:
            known = ", ".join(sorted(named)) or "none yet"
            raise CliError(f"Run {run_id} has no artifact {name}; it has {known}.", f"overproof ls {run_id}")
        return str(named[name])

    def problems_of(self, completions: str) -> dict[str, Any] | None:
        """The problems that the completions `RUN:ARTIFACT` belong to, as that run prepared them: its parts fit theirs."""
        found = RUN_ARTIFACT_PATTERN.match(completions)
        if not found:
            return None
        evaluated = found[2].split("/")[1:2] == ["test"]
        return {"artifact": self.artifact(found[1], "problems/test" if evaluated else "problems/train")}


def _generated(text: str) -> dict[str, Any]:
    name, _, rest = text.partition(":")
    parts = rest.split(":")
    numbers = parts[1:]
    if name != "demo-math" or len(parts) not in (2, 3) or not all(part.isdecimal() for part in numbers):
        raise UsageError(
            f"{text} is not of the form demo-math:SPLIT:N or demo-math:SPLIT:N:SEED.", "demo-math:test:300"
        )
    seed = {"seed": int(numbers[1])} if len(numbers) == 2 else {}
    return {"generator": name, "split": parts[0], "n": int(numbers[0])} | seed


def column(pair: str) -> tuple[str, str]:
    """`ours=theirs`."""
    ours, equals, theirs = pair.partition("=")
    if not equals or not ours or not theirs:
        raise UsageError(f"--column {pair} is not of the form ours=theirs.", "--column problem=question")
    return ours, theirs
