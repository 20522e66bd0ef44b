"""How fast several GPUs of one host reach each other: what a training over them can hope for.

torchrun --nproc_per_node 2 benchmarks/links.py [--mib 256]

GB/s are of the bytes that each of n GPUs must send at least: 2 (n - 1) / n of the tensor for an all-reduce, half of that for a
reduce-scatter or an all-gather (https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md). `direct` says whether
one GPU may read the other's memory; where not, bytes go through the host's. On a CPU: gloo, to see that it runs.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable

import torch
from torch import distributed

WARM, TIMED = 3, 10
ON_GPU = torch.cuda.is_available()
_add_in_parts = getattr(distributed, "reduce_scatter_single", None) or distributed.reduce_scatter_tensor
_gather = getattr(distributed, "all_gather_single", None) or distributed.all_gather_into_tensor
"""As they are called from torch 2.13 on, and before."""


def seconds_of(operation: Callable[[], object]) -> float:
    """Of one call, when all processes make it."""
    for _ in range(WARM):
        operation()
    _wait()
    began = time.perf_counter()
    for _ in range(TIMED):
        operation()
    _wait()
    return (time.perf_counter() - began) / TIMED


def _wait() -> None:
    distributed.barrier()
    if ON_GPU:
        torch.cuda.synchronize()


def main() -> None:
    """Print a line per operation."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mib", type=int, default=256)
    given = parser.parse_args()
    rank, device = int(os.environ["RANK"]), "cpu"
    if ON_GPU:
        device = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if ON_GPU else "gloo")
    n = distributed.get_world_size()
    whole = torch.ones(given.mib * 2**19, dtype=torch.bfloat16, device=device)
    part = whole.chunk(n)[rank].clone()
    sent = whole.numel() * 2 * (n - 1) / n / 1e9
    operations: dict[str, tuple[float, Callable[[], object]]] = {
        "all-reduce": (2 * sent, lambda: distributed.all_reduce(whole)),
        "reduce-scatter": (sent, lambda: _add_in_parts(part, whole)),
        "all-gather": (sent, lambda: _gather(whole, part)),
    }
    direct = ON_GPU and torch.cuda.can_device_access_peer(0, 1)
    for name, (gigabytes, operation) in operations.items():
        seconds = seconds_of(operation)
        if rank == 0:
            print(
                f"{name:14} {n} x {given.mib} MiB: {1e3 * seconds:7.2f} ms, {gigabytes / seconds:6.1f} GB/s, direct: {direct}"
            )
    distributed.destroy_process_group()


if __name__ == "__main__":
    main()
