"""What runs made, and what goes in: list, copy, the report."""

from __future__ import annotations

import argparse
import contextlib
import re
import time
import webbrowser
from pathlib import Path
from typing import Any
from urllib.parse import quote

from overproof.cli import evaluation_file
from overproof.cli.client import artifact_path
from overproof.cli.ending import save_report
from overproof.cli.errors import CliError, Refused, UsageError
from overproof.cli.joining import joined
from overproof.cli.session import Session
from overproof.cli.sources import column

FORMATS = {".parquet": "parquet", ".jsonl": "jsonl", ".csv": "csv"}
REPORT_FORMS = {".html": "html", ".json": "json", ".md": "md"}
REMOTE = re.compile(r"^([a-z0-9][a-z0-9_-]{7,63}):(.+)$")
DATASETS = "datasets:"
LAYOUTS = ("original", "prompts", "metadata", "solutions", "correct", "evaluation")
NEXT_OF_TABLE = {
    "problems": "overproof sample --model MODEL --dataset {} --output completions.jsonl",
    "completions": "overproof grade --completions {} --dataset PROBLEMS",
    "grades": "overproof select --grades {} --completions COMPLETIONS --dataset PROBLEMS",
    "selected": "overproof train --model STUDENT --data {}",
    "questions": "overproof run RECIPE --set data.train.upload={} --set data.on_ungradable=keep --set selection.0.labels=majority",
}


def register(add: Any) -> None:
    """`add(name, help, command)` → the command's own parser."""
    one = add("ls", "runs, or the artifacts of one run", ls)
    one.add_argument("run_id", nargs="?", metavar="ID")
    one.add_argument("--limit", type=int, default=20, help="how many runs (default 20)")
    one = add("cp", "copy an artifact here (ID:NAME PATH), or a file there (FILE datasets:)", cp)
    one.add_argument("source", metavar="ID:NAME|FILE")
    one.add_argument("target", metavar="PATH|datasets:")
    one.add_argument("--format", choices=sorted(FORMATS.values()), help="default: by the suffix of PATH, else parquet")
    one.add_argument("--layout", choices=LAYOUTS, help="a line format of the original workflow")
    one.add_argument("--table", choices=sorted(NEXT_OF_TABLE), default="problems", help="what the rows of FILE are")
    one.add_argument("--column", action="append", default=[], metavar="ours=theirs", help="columns of FILE")
    one.add_argument("--license", help="of FILE")
    one.add_argument("--metadata", type=Path, metavar="FILE", help="JSONL with level and type, line by line as FILE")
    one = add("report", "the results of a run", report)
    one.add_argument("run_id", metavar="ID")
    one.add_argument("-o", "--output", type=Path, help="save it: .html, .json or .md")
    one.add_argument("--open", action="store_true", help="save the page and show it in a browser")
    one.add_argument(
        "--beside",
        action="append",
        default=[],
        type=Path,
        metavar="FILE",
        help="evaluation JSON to show below the table",
    )


def ls(session: Session, args: argparse.Namespace) -> int:
    """`overproof ls`."""
    return _ls_artifacts(session, args.run_id) if args.run_id else _ls_runs(session, args.limit)


def _ls_runs(session: Session, limit: int) -> int:
    found = session.gateway.runs(limit)
    session.output.data(found)
    if not found:
        session.output.text("no runs yet")
        session.output.next("overproof run recipes/demo.yaml")
        return 0
    session.output.table(
        ("RUN", "NAME", "STATE", "CREATED (UTC)"),
        [
            (run["id"], str(run.get("name", "")), str(run.get("state", "")), _when(run.get("created_at")))
            for run in found
        ],
    )
    session.output.next(f"overproof status {found[0]['id']}")
    return 0


def _when(seconds: Any) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(float(seconds))) if seconds else ""


def _ls_artifacts(session: Session, run_id: str) -> int:
    found = session.gateway.artifacts(run_id)
    session.output.data(found)
    session.output.table(
        ("ARTIFACT", "ROWS", "BYTES", "STATE"),
        [
            (item["name"], _n(item.get("rows")), _n(item.get("bytes")), "done" if item.get("complete") else "-")
            for item in found
        ],
    )
    done = next((item["name"] for item in found if item.get("complete")), None)
    session.output.next(f"overproof cp {run_id}:{done} ." if done else f"overproof watch {run_id}")
    return 0


def _n(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else "-"


def cp(session: Session, args: argparse.Namespace) -> int:
    """`overproof cp`."""
    if args.target == DATASETS:
        return _upload(session, args)
    found = REMOTE.match(args.source)
    if not found:
        raise UsageError(
            f"{args.source} is not of the form ID:NAME.", "overproof cp ID:NAME PATH, or overproof cp FILE datasets:"
        )
    written = fetch(session, found[1], found[2], Path(args.target), args.format, args.layout)
    session.output.data({"run_id": found[1], "artifact": found[2], "files": [str(path) for path in written]})
    for path in written:
        session.output.text(f"✓ {path}   {path.stat().st_size:,} bytes")
    session.output.next(f"overproof ls {found[1]}")
    return 0


def _upload(session: Session, args: argparse.Namespace) -> int:
    path = Path(args.source)
    if not path.is_file():
        raise CliError(f"There is no file {path}.", "Name a .jsonl, .csv or .parquet file.")
    columns = dict(column(pair) for pair in args.column)
    if args.metadata and not args.metadata.is_file():
        raise CliError(
            f"There is no file {args.metadata}.", "Name a JSONL file with a line for each line of the other."
        )
    with joined(path, args.metadata) as file:
        record = session.gateway.upload(file, license=args.license, table=args.table, columns=columns)
    name = str(record["dataset_id"])
    session.output.data(record)
    session.output.text(f"✓ {name}   {record['rows']:,} rows")
    session.output.next(NEXT_OF_TABLE[args.table].format(name))
    return 0


def fetch(
    session: Session, run_id: str, name: str, target: Path, form: str | None = None, layout: str | None = None
) -> list[Path]:
    """Copy one artifact; returns the files written. A table becomes one file, a checkpoint or report a folder of files."""
    item = _artifact(session, run_id, name)
    if not item.get("complete"):
        raise CliError(f"{name} of run {run_id} is not complete yet.", f"overproof watch {run_id}")
    if item.get("table") is None:
        written = [_fetch_file(session, run_id, name, file, target) for file in session.gateway.files(run_id, name)]
        _add_results(session, run_id, name, target)
        return written
    form = form or FORMATS.get(target.suffix, "parquet")
    if target.is_dir() or not target.suffix:
        target = target / f"{name.replace('/', '-')}.{form}"
    _make_parent(target)
    params = {"layout": layout} if layout else {"format": form}
    session.gateway.download(artifact_path(run_id, name), target, params)
    return [target]


def _artifact(session: Session, run_id: str, name: str) -> dict[str, Any]:
    found = {item["name"]: item for item in session.gateway.artifacts(run_id)}
    if name not in found:
        known = ", ".join(sorted(found)) or "none yet"
        raise CliError(f"Run {run_id} has no artifact {name}; it has {known}.", f"overproof ls {run_id}")
    return found[name]


def _fetch_file(session: Session, run_id: str, name: str, file: str, folder: Path) -> Path:
    target = folder / file
    if not target.resolve().is_relative_to(folder.resolve()):
        raise CliError(f"The gateway offers a file outside of {folder}: {file}.", "Do not trust this gateway.")
    _make_parent(target)
    session.gateway.download(f"{artifact_path(run_id, name)}/files/{quote(file)}", target)
    return target


def _add_results(session: Session, run_id: str, name: str, folder: Path) -> None:
    """The model card of a student with its results, in place of the one from before it had any; none without a report."""
    card, place = f"cards/{name.removeprefix('student/')}.md", folder / "checkpoint" / "README.md"
    if name.startswith("student/") and place.is_file():
        with contextlib.suppress(Refused):  # the run made no report, or an older one
            session.gateway.download(f"{artifact_path(run_id, 'report')}/files/{quote(card)}", place)


def _make_parent(target: Path) -> None:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CliError(f"{target.parent} cannot be made: {error.strerror}.", "Name another path.") from error


def report(session: Session, args: argparse.Namespace) -> int:
    """`overproof report`."""
    beside = [evaluation_file.read(path) for path in args.beside]
    value = session.gateway.report(args.run_id)
    session.output.data(value | ({"beside": [one._asdict() for one in beside]} if beside else {}))
    session.output.text(str(value.get("table_text") or "").rstrip("\n"))
    for one in beside:
        session.output.text(one.line())
    target = args.output or (Path(f"{args.run_id}.html") if args.open else None)
    if target is None:
        session.output.text(f" ▸ {session.gateway.report_url(args.run_id)}")
        session.output.next(f"overproof report {args.run_id} --open", f"overproof ls {args.run_id}")
        return 0
    form = REPORT_FORMS.get(target.suffix)
    if form is None:
        raise UsageError(f"{target} says no form of report.", "Name a file that ends in .html, .json or .md.")
    saved = save_report(session, args.run_id, target, form)
    session.output.text(f" ▸ {saved}")
    session.output.next(f"overproof ls {args.run_id}")
    if args.open:
        webbrowser.open(saved.resolve().as_uri())
    return 0
