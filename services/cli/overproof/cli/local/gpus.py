"""Which GPUs of this machine each inference worker gets, and which ones training sees."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from overproof.cli.errors import CliError

SETTING = "OVERPROOF_INFERENCE_GPUS"
VISIBLE = "CUDA_VISIBLE_DEVICES"
NOTATION = (
    'Separate workers by ";" and the GPUs of one worker by ",": "0;1" is two workers, "0,1" is one that has both.'
)
QUERY = ("nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader")
SECONDS_FOR_NVIDIA_SMI = 20


class Gpu(NamedTuple):
    """One of this machine."""

    number: str
    """In nvidia-smi."""
    uuid: str

    def has_name(self, name: str) -> bool:
        """Whether CUDA_VISIBLE_DEVICES means it by `name`: a number, or the beginning of a UUID."""
        return name == self.number or (name.startswith("GPU-") and self.uuid.startswith(name))


def groups(environ: Mapping[str, str]) -> tuple[str | None, ...]:
    """CUDA_VISIBLE_DEVICES of each inference worker: what OVERPROOF_INFERENCE_GPUS says, else one visible GPU for each.

    None: the worker sees what this process sees, as with a single GPU. Empty: there is no GPU. Raises CliError for a value that
    cannot be.
    """
    wanted = environ.get(SETTING, "").strip()
    if not has_gpu(environ):
        if wanted:
            raise CliError(f'{SETTING} is "{wanted}", and no GPU is visible here.', f"Unset {SETTING}, or {VISIBLE}.")
        return ()
    if wanted:
        return _parsed(wanted, environ)
    names = visible(environ)
    return names if len(names) > 1 else (None,)


def has_gpu(environ: Mapping[str, str]) -> bool:
    """Whether this machine has an NVIDIA GPU, and CUDA_VISIBLE_DEVICES does not hide them all."""
    hidden = VISIBLE in environ and not _names(environ[VISIBLE])
    return not hidden and shutil.which("nvidia-smi", path=environ.get("PATH")) is not None


def visible(environ: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the GPUs that CUDA_VISIBLE_DEVICES shows, all where it is not set; empty where nvidia-smi cannot tell."""
    if VISIBLE in environ:
        return _names(environ[VISIBLE])
    return tuple(gpu.number for gpu in on_this_machine())


def on_this_machine() -> list[Gpu]:
    """As nvidia-smi lists them; empty where it cannot."""
    try:
        said = subprocess.run(QUERY, capture_output=True, text=True, timeout=SECONDS_FOR_NVIDIA_SMI, check=True).stdout
        fields = [[field.strip() for field in line.split(",")] for line in said.splitlines() if line.strip()]
        return [Gpu(number, uuid) for number, uuid in fields]
    except (OSError, subprocess.SubprocessError, ValueError):
        return []


def sentence(environ: Mapping[str, str]) -> str | None:
    """Which GPUs serve what, in one line; None without GPUs. Raises CliError as `groups` does."""
    shares = groups(environ)
    if not shares:
        return None
    seen = ",".join(visible(environ)) or "all"
    workers = f"{len(shares)} inference worker{'s'[: len(shares) > 1]} ({';'.join(one or seen for one in shares)})"
    processes = environ.get("OVERPROOF_TRAINING_PROCESSES")
    number = (
        f"{processes} (OVERPROOF_TRAINING_PROCESSES)" if processes else "as many as the recipe's training.processes"
    )
    return f"GPUs: {workers}; training sees {environ.get('OVERPROOF_TRAINING_GPUS') or seen} and takes {number}"


def _names(value: str) -> tuple[str, ...]:
    """Of CUDA_VISIBLE_DEVICES: CUDA stops reading at an empty name or -1."""
    return tuple(itertools.takewhile(lambda name: name not in ("", "-1"), (one.strip() for one in value.split(","))))


def _parsed(wanted: str, environ: Mapping[str, str]) -> tuple[str, ...]:
    shares = [[name.strip() for name in share.split(",")] for share in wanted.split(";")]
    named = [name for share in shares for name in share]
    if "" in named:
        raise CliError(f'{SETTING} is "{wanted}": a name in it is empty.', NOTATION)
    machine = on_this_machine()
    meant = [_number(name, machine, SETTING) for name in named]
    _check_visible(named, meant, environ, machine)
    for name, number in zip(named, meant, strict=True):
        if meant.count(number) > 1:
            raise CliError(f'{SETTING} is "{wanted}": it names GPU {name} twice.', f"Name each GPU once. {NOTATION}")
    return tuple(",".join(share) for share in shares)


def _check_visible(named: list[str], meant: list[str], environ: Mapping[str, str], machine: Iterable[Gpu]) -> None:
    if VISIBLE not in environ:
        return
    shown = {_number(name, machine, VISIBLE) for name in _names(environ[VISIBLE])}
    for name, number in zip(named, meant, strict=True):
        if number not in shown:
            raise CliError(
                f"{SETTING} names GPU {name}, and {VISIBLE} shows {environ[VISIBLE]} only.",
                f"Name some of those, or unset {VISIBLE}.",
            )


def _number(name: str, machine: Iterable[Gpu], variable: str) -> str:
    """What nvidia-smi calls it; the name itself where nvidia-smi tells nothing, and of a slice of a GPU. Raises CliError for an unknown one."""
    for gpu in machine:
        if gpu.has_name(name):
            return gpu.number
    numbers = ",".join(gpu.number for gpu in machine)
    if numbers and not name.startswith("MIG-"):
        raise CliError(
            f'{variable} names "{name}", and the GPUs of this machine are {numbers}.', f"Name some of those. {NOTATION}"
        )
    return name
