"""`overproof doctor`: what works, what does not, and what to do about it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from overproof.cli.commands import container_checks
from overproof.cli.commands.findings import Finding, State
from overproof.cli.errors import CliError
from overproof.cli.local.gpus import VISIBLE, sentence
from overproof.cli.local.redis_server import binary, named_url, ping, redacted
from overproof.cli.local.services import missing, model_root
from overproof.cli.local.state import DEFAULT, StateFolder
from overproof.cli.session import Session

MIN_FREE_BYTES = 2 * 2**30  # the demo writes far less; a run of a million problems writes more
SECONDS_FOR_NVIDIA_SMI = 10
AUTHENTICATE = "Put the server's password into the URL: redis://:PASSWORD@host:6379/0 (compose keeps it in compose/secrets/redis_password)."
MARKS = {"ok": "✓", "bad": "✗", "note": "·"}


def register(add: Any) -> None:
    """`add(name, help, command)` → the command's own parser."""
    add("doctor", "check gateway, Redis, storage, models and GPUs, and say what to mend", doctor)


def doctor(session: Session, args: argparse.Namespace) -> int:
    """`overproof doctor`: exit status 1 when anything is bad."""
    findings = [finding for check in CHECKS for finding in check(session)]
    session.output.data([finding._asdict() for finding in findings])
    width = max(len(finding.subject) for finding in findings)
    for finding in findings:
        session.output.text(f"{MARKS[finding.state]} {finding.subject.ljust(width)}  {finding.message}")
        if finding.remedy:
            session.output.text(f"  {' ' * width}  try  {finding.remedy}")
    bad = any(finding.state == "bad" for finding in findings)
    session.output.next("overproof doctor" if bad else "overproof run recipes/demo.yaml")
    return 1 if bad else 0


def gateway(session: Session) -> Iterator[Finding]:
    """What `/readyz` says of the gateway and of all it needs."""
    try:
        status, body = session.gateway.readiness()
    except CliError as error:
        yield Finding("gateway", "bad", error.message, error.remedy)
        return
    yield Finding("gateway", "ok" if status < 400 else "bad", f"{session.gateway.url} answers {status}")
    for name, check in (body.get("checks") or {}).items():
        state: State = "ok" if check["ok"] else "bad" if check["required"] else "note"
        yield Finding(f"gateway: {name}", state, str(check["detail"]))


def redis(session: Session) -> Iterator[Finding]:
    """The server that the environment names, or whether one could be started here."""
    url = named_url(session.environ)
    if url is None:
        try:
            yield Finding("redis", "ok", f"`overproof local` would start {binary(session.environ.get('PATH'))}")
        except CliError as error:
            yield Finding("redis", "note", error.message, error.remedy)
        return
    reason = ping(url)
    if reason and ("NOAUTH" in reason or "WRONGPASS" in reason):
        yield Finding("redis", "bad", f"{redacted(url)} refuses the password: {reason}", AUTHENTICATE)
    elif reason:
        yield Finding("redis", "bad", f"{redacted(url)} does not answer: {reason}", "Start it, or unset REDIS_URL.")
    else:
        yield Finding("redis", "ok", f"{redacted(url)} answers")


def storage(session: Session) -> Iterator[Finding]:
    """Whether the storage folder can be written, and how much room it has."""
    named = session.environ.get("OVERPROOF_STORAGE")
    if named and "://" in named and not named.startswith("file://"):
        yield Finding("storage", "note", f"{named} is not on this machine; the gateway's own check counts")
        return
    folder = Path(named.removeprefix("file://")) if named else StateFolder(DEFAULT).storage
    there = folder if folder.exists() else next((up for up in folder.absolute().parents if up.exists()), Path("/"))
    if not os.access(there, os.W_OK):
        yield Finding("storage", "bad", f"{folder} cannot be written", "Change its owner, or set OVERPROOF_STORAGE.")
        return
    free = shutil.disk_usage(there).free
    enough = free >= MIN_FREE_BYTES
    message = f"{folder} can be written; {free / 2**30:,.1f} GiB free"
    yield Finding("storage", "ok" if enough else "bad", message, "" if enough else "Free some space.")


def models(session: Session) -> Iterator[Finding]:
    """Model folders below the model root: are their parts there?"""
    root = model_root(session.environ)
    folders = sorted(config.parent for config in root.glob("**/config.json")) if root.is_dir() else []
    if not folders:
        yield Finding(
            "models", "note", f"no model folder below {root}/", "Set OVERPROOF_MODEL_ROOT, or make demo-models."
        )
    for folder in folders:
        lacking = _lacking(folder)
        name = str(folder.relative_to(root))
        message = f"{name} lacks {', '.join(lacking)}" if lacking else f"{name} is complete"
        yield Finding("models", "bad" if lacking else "ok", message, "Save the tokenizer beside it." if lacking else "")


def _lacking(folder: Path) -> list[str]:
    lacking = [] if any(folder.glob("*.safetensors")) else ["*.safetensors"]
    if not (folder / "tokenizer.json").is_file():
        lacking.append("tokenizer.json")
    if not _has_chat_template(folder):
        lacking.append("a chat template")
    return lacking


def _has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file():
        return True
    try:
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(isinstance(config, dict) and config.get("chat_template"))


def services(session: Session) -> Iterator[Finding]:
    """Whether `overproof local` could run here."""
    absent = missing()
    if absent:
        yield Finding("local", "note", f"not installed: {', '.join(absent)}", "make setup, for `overproof local`.")
    else:
        yield Finding("local", "ok", "all services are installed here")


def gpus(session: Session) -> Iterator[Finding]:
    """GPUs of this machine; none is no fault."""
    program = shutil.which("nvidia-smi")
    if program is None:
        yield Finding("gpus", "note", "none here; engine.kind: transformers runs on the CPU")
        return
    query = [program, "--query-gpu=name,memory.total,memory.free", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=SECONDS_FOR_NVIDIA_SMI, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        yield Finding("gpus", "bad", f"nvidia-smi fails: {error}", "Mend the driver.")
        return
    for index, line in enumerate(said.stdout.strip().splitlines()):
        name, total, free = (part.strip() for part in line.split(","))
        yield Finding("gpus", "ok", f"{index}: {name}, {total}, {free} free")
    yield _shares(session)


def _shares(session: Session) -> Finding:
    try:
        shares = sentence(session.environ)
    except CliError as error:
        return Finding("gpus", "bad", error.message, error.remedy)
    if shares is None:
        return Finding("gpus", "note", f"{VISIBLE} hides them from `overproof local`")
    return Finding("gpus", "ok", f"`overproof local` would share them out: {shares.removeprefix('GPUs: ')}")


def containers(session: Session) -> Iterator[Finding]:
    """What `make up` would need, where its files lie."""
    try:
        session.gateway.readiness()
        answering = True
    except CliError:
        answering = False
    yield from container_checks.findings(session.environ, answering)


CHECKS: tuple[Callable[[Session], Iterator[Finding]], ...] = (
    gateway, redis, storage, models, services, gpus, containers,
)  # fmt: skip
