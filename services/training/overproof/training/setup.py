"""On what a training runs, in one line: written by the first process, said by the worker in its log and kept in `training.json`."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import Any

from overproof.shared.errors import UserError
from overproof.shared.recipe import TrainingOptions

log = logging.getLogger(__name__)

NAMED = ("attention", "loss", "fused_layers", "exchange")
"""Said by their names, where they are known."""


def check_devices(processes_here: int, visible: int, *, needed: bool) -> None:
    """Raises UserError when not every process of this machine can have a GPU of its own; none at all is a training on a CPU,
    unless GPUs were asked for (`needed`)."""
    if processes_here > visible and (visible or needed):
        raise UserError(
            f"Training wants {processes_here} GPU{'s'[: processes_here > 1]} of this machine, and {visible} are visible to it.",
            "Set training.processes or OVERPROOF_TRAINING_PROCESSES to that number, or show it more of them (OVERPROOF_TRAINING_GPUS).",
        )


def leave_out_unused(options: TrainingOptions) -> None:
    """Without this peft imports bitsandbytes wherever it is installed: three seconds, and a line in the log of what its CPU part lacks."""
    if not options.needs_bitsandbytes:
        sys.modules.setdefault("bitsandbytes", None)  # type: ignore[arg-type]  # as if it were not installed


def sentence(setup: dict[str, Any]) -> str:
    """`2 processes on 1 node (NVIDIA H100 80GB HBM3: GPUs 0,1 of 4 visible), ZeRO 2, bfloat16; attention: ...; loss: ...; fused layers: ...`."""
    nodes = f"{setup['nodes']} node" + ("s" if setup["nodes"] > 1 else "")
    n_used, n_visible = len(setup["gpus"].split(",")), setup.get("visible_gpus", 0)
    gpus = f": GPU{'s'[: n_used > 1]} {setup['gpus']}" if setup["gpus"] else ""
    gpus += f" of {n_visible} visible" if gpus and n_visible > n_used else ""
    where = f"{setup['processes']} process{'es' if setup['processes'] > 1 else ''} on {nodes} ({setup['device']}{gpus})"
    rest = "; ".join(f"{name}: {setup[name]}" for name in NAMED if setup.get(name) is not None)
    return f"{where}, ZeRO {setup['zero_stage']}, {setup['dtype']}; {rest}".replace("_", " ")


class Announcement:
    """Says it once, as soon as the first process knows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._said = False

    def look(self) -> bool:
        """Returns whether it was said now."""
        if self._said or not self._path.is_file():
            return False
        self._said = True
        log.info("training on %s", sentence(json.loads(self._path.read_text())))
        return True
