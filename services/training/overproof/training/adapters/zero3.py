"""ZeRO 3, in which every process holds a piece of each weight."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import distributed

from overproof.training.adapters.exchange import square


def fetch_whole_layers(model: Any) -> None:
    """A decoder layer's weights are fetched together, not one matrix after the other, each with hooks before and after it.

    Not for a model with adapters: under DeepSpeed 0.19 its backward then meets weights that are gone already, and fails.
    (DeepSpeed's leaf modules: https://deepspeed.readthedocs.io/en/latest/zero3.html)"""
    from deepspeed.utils import set_z3_leaf_modules

    layers = [*(model._no_split_modules or ())]  # where transformers says that a layer is not to be cut
    set_z3_leaf_modules(model, layers, raise_if_not_found=False)


def go_on_launching(engine: Any) -> None:
    """Where nothing lies in the CPU's memory: Python is not held up when a pass is over, and has less to launch when a step is.

    DeepSpeed 0.19 (`runtime/zero/stage3.py`) lets Python wait for the last gradient's exchange after every pass, so that the GPU then waits for
    Python; here it is the stream that waits. Norms are one number per gradient, added up over the processes at once; DeepSpeed copies each
    gradient to float64, and asks the processes group by group. Its marks for a profiler, two for every call, are off.
    """
    from deepspeed.utils import nvtx

    nvtx.enable_nvtx = False
    zero = engine.optimizer
    zero._get_norm_groups = partial(_norms, zero)
    stream = zero.reduce_and_partition_stream
    if stream is not None:  # on a GPU
        stream.synchronize = partial(_let_stream_wait, stream)


def _norms(zero: Any) -> list[torch.Tensor]:
    """Of each group's gradient over all processes, scalars."""
    squares = torch.stack([square(zero.averaged_gradients[i]) for i in range(len(zero.fp16_groups))])
    distributed.all_reduce(squares)
    return [*squares.sqrt()]


def _let_stream_wait(stream: torch.cuda.Stream) -> None:
    torch.cuda.current_stream().wait_stream(stream)
