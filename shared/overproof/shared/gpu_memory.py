"""Free memory of this machine's GPUs, and waiting for it: services that share a GPU take turns on it by what they see here.

`nvidia-smi` is asked in a child, so that the asking worker makes no CUDA context: that alone holds some hundred MiB. Where
nothing can be read (no driver, a slice of a GPU) no GPU is known, and nobody waits.
"""

from __future__ import annotations

import logging
import subprocess
import time
from collections.abc import Callable, MutableMapping
from typing import NamedTuple

log = logging.getLogger(__name__)

GIB = 2**30
MIB = 2**20
QUERY = ("nvidia-smi", "--query-gpu=index,uuid,memory.free,memory.used", "--format=csv,noheader,nounits")
SECONDS_FOR_NVIDIA_SMI = 20.0
SECONDS_BETWEEN_LOOKS = 2.0
PHASE = "waiting for GPU memory"
"""What the progress of a shard that waits says."""


class Gpu(NamedTuple):
    """One GPU, now."""

    number: str
    """In nvidia-smi."""
    uuid: str
    free: int
    """Bytes."""
    total: int
    """Bytes that programs can have: less than the memory's size, by what the driver keeps."""

    def has_name(self, name: str) -> bool:
        """Whether CUDA_VISIBLE_DEVICES means it by `name`: a number, or the beginning of a UUID."""
        return name == self.number or (name.startswith("GPU-") and self.uuid.startswith(name))


class Short(NamedTuple):
    """A GPU without enough room."""

    gpu: Gpu
    needed: float
    """Bytes."""

    def __str__(self) -> str:
        return f"{self.gpu.free / GIB:.1f} of the {self.gpu.total / GIB:.1f} GiB of GPU {self.gpu.number} are free"


def count_as_nvidia_smi_does(environ: MutableMapping[str, str]) -> None:
    """Let CUDA number the GPUs by their place on the bus, as `nvidia-smi` does; by itself it puts the fastest first.

    For a process before it starts CUDA, or for its children. An order that somebody has set stays; then only UUIDs mean
    the same GPU to both.
    """
    environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")


def visible(names: str | None) -> list[Gpu]:
    """The GPUs that `names` lists, in its order, as CUDA_VISIBLE_DEVICES does; None: all. Empty where one cannot be read."""
    found = _all()
    if names is None:
        return found
    chosen = [[gpu for gpu in found if gpu.has_name(name.strip())] for name in names.split(",")]
    return [gpus[0] for gpus in chosen] if all(chosen) else []


def wait_for_room(
    look: Callable[[], list[Gpu]],
    need: Callable[[Gpu], float],
    check: Callable[[], None],
    tell: Callable[[], None],
    seconds: float,
) -> Short | None:
    """None once every GPU has as many bytes free as `need` says of it; the shortest one, if that is still not so after `seconds`.

    While it waits it calls `tell`, and `check`, which ends the waiting by raising.
    """
    end, said = time.monotonic() + seconds, False
    while (short := _shortest(look(), need)) and time.monotonic() < end:
        if not said:
            log.info("%s: %s, %.1f are needed", PHASE, short, short.needed / GIB)
            said = True
        tell()
        check()
        time.sleep(min(SECONDS_BETWEEN_LOOKS, max(0.0, end - time.monotonic())))
    return short


def _shortest(gpus: list[Gpu], need: Callable[[Gpu], float]) -> Short | None:
    short = [Short(gpu, need(gpu)) for gpu in gpus if gpu.free < need(gpu)]
    return max(short, key=lambda one: one.needed - one.gpu.free, default=None)


def _all() -> list[Gpu]:
    try:
        said = subprocess.run(QUERY, capture_output=True, text=True, timeout=SECONDS_FOR_NVIDIA_SMI, check=True)
        return [_gpu(line) for line in said.stdout.splitlines() if line.strip()]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def _gpu(line: str) -> Gpu:
    """Raises ValueError for what is no line of four fields, or has `[N/A]` for a number."""
    number, uuid, free, used = (field.strip() for field in line.split(","))
    return Gpu(number, uuid, int(free) * MIB, (int(free) + int(used)) * MIB)
