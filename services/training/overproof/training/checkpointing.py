"""Which checkpoints count: only those whose marker, written last, matches every file.

checkpoints/checkpoint-<step>/COMPLETE.json   {file: SHA-256}
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from overproof.training.job import write_whole

log = logging.getLogger(__name__)

MARKER = "COMPLETE.json"
PREFIX = "checkpoint-"
SHARD = "5GB"
"""Largest file of weights, as on the Hugging Face hub; larger students have several and an index."""
KEPT = 2
"""Newest complete checkpoints that are kept, besides the best: should one be damaged, the one before it is there."""


def step_of(checkpoint: Path) -> int:
    """Optimizer steps behind a checkpoint."""
    return int(checkpoint.name.removeprefix(PREFIX))


def mark_complete(checkpoint: Path) -> None:
    """Write the marker; call it when every process has written its files."""
    write_whole(checkpoint / MARKER, json.dumps(_hashes(checkpoint), indent=1))


def is_intact(checkpoint: Path) -> bool:
    """Whether the checkpoint is complete and every file is as it was written."""
    marker = checkpoint / MARKER
    if not marker.is_file():
        return False
    try:
        written = json.loads(marker.read_bytes())
    except ValueError:  # a marker that cannot be read is a damaged file like any other
        return False
    return bool(written == _hashes(checkpoint))


def newest_complete(checkpoints: Path) -> Path | None:
    """The newest checkpoint whose files are all as they were written; damaged and unfinished ones are removed."""
    for checkpoint in sorted(_all(checkpoints), key=step_of, reverse=True):
        if is_intact(checkpoint):
            return checkpoint
        log.warning("%s is unfinished or damaged and is removed", checkpoint)
        shutil.rmtree(checkpoint)
    return None


def weights_name(step: int) -> str:
    """Folder of weights that may yet be chosen; not a checkpoint, nothing goes on from it."""
    return f"weights-{step}"


def keep_weights(checkpoint: Path) -> None:
    """Give a complete checkpoint's weights a second name that `prune` leaves alone; gigabytes are not copied."""
    target = checkpoint.with_name(weights_name(step_of(checkpoint)))
    temporary = checkpoint.with_name(f".{target.name}.tmp")
    for leftover in (temporary, target):
        shutil.rmtree(leftover, ignore_errors=True)
    temporary.mkdir()
    for file in (*checkpoint.glob("*.safetensors*"), *checkpoint.glob("adapter_config.json")):
        link_or_copy(file, temporary / file.name)
    mark_complete(temporary)
    temporary.rename(target)


def drop_weights(checkpoints: Path, step: int) -> None:
    """These will not be chosen."""
    shutil.rmtree(checkpoints / weights_name(step), ignore_errors=True)


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for a file, or a copy where the file system has no hard links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def newest_intact(checkpoints: Path) -> Path | None:
    """The same, for a node that only reads: another removes what is damaged, perhaps just now."""
    for checkpoint in sorted(_all(checkpoints), key=step_of, reverse=True):
        with contextlib.suppress(FileNotFoundError):
            if is_intact(checkpoint):
                return checkpoint
    return None


def prune(checkpoints: Path, keep_steps: Iterable[int]) -> None:
    """Remove complete checkpoints except the newest KEPT and those of `keep_steps`."""
    complete = sorted((one for one in _all(checkpoints) if (one / MARKER).is_file()), key=step_of)
    kept = set(keep_steps)
    for checkpoint in complete[:-KEPT]:
        if step_of(checkpoint) not in kept:
            shutil.rmtree(checkpoint)


def rewind(metrics: Path, step: int) -> None:
    """Drop the lines after `step` from a metrics file: those steps are made again."""
    lines = read_lines(metrics)
    write_whole(metrics, "".join(json.dumps(line) + "\n" for line in lines if line["step"] <= step))


def forget_probes(probes: Path, checkpoints: Path, step: int) -> None:
    """Remove what was written after `step`, and the weights that it was written with: both are made again."""
    for path in probes.glob("step-*.json"):
        later = int(path.stem.removeprefix("step-"))
        if later > step:
            path.unlink()
            drop_weights(checkpoints, later)


def read_lines(metrics: Path) -> list[dict[str, Any]]:
    """Whole lines of a metrics file; a line cut short by a crash is left out."""
    if not metrics.is_file():
        return []
    whole, _, _ = metrics.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines() if line]


def _all(checkpoints: Path) -> list[Path]:
    return [one for one in checkpoints.glob(f"{PREFIX}*") if one.name.removeprefix(PREFIX).isdigit()]


def _hashes(checkpoint: Path) -> dict[str, str]:
    files = sorted(file for file in checkpoint.rglob("*") if file.is_file() and not file.name.startswith("."))
    return {file.relative_to(checkpoint).as_posix(): _sha256(file) for file in files if file.name != MARKER}


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
