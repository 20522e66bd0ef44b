"""ZeRO 3, in which every process holds a piece of each weight."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import distributed

from overproof.training.adapters.exchange import gather, square


def fetch_whole_layers(model: Any) -> None:
    """A decoder layer's weights are fetched together, not one matrix after the other, each with hooks before and after it.

    Not for a model with adapters: under DeepSpeed 0.19 its backward then meets weights that are gone already, and fails.
    (DeepSpeed's leaf modules: https://deepspeed.readthedocs.io/en/latest/zero3.html)"""
    from deepspeed.utils import set_z3_leaf_modules

    layers = [*(model._no_split_modules or ())]  # where transformers says that a layer is not to be cut
    set_z3_leaf_modules(model, layers, raise_if_not_found=False)


def go_on_launching(engine: Any) -> None:
    """Where nothing lies in the CPU's memory: Python goes on launching when a pass is over, and when a step is.

    DeepSpeed 0.19 (`runtime/zero/stage3.py`) lets Python wait for the last gradient's exchange after every pass, for the gradient's norm
    before a step (it reckons it weight by weight, in float64, and asks the processes group by group), and for each small weight that it
    keeps whole after it: each time the GPU then waits for Python. Here it is the stream that waits, a norm is one number per gradient, and
    small weights travel together. A norm that is no number ends the training as it does at the other stages, when it is told
    (`adapters.journal`). DeepSpeed's marks for a profiler, two for every call, are off.
    """
    from deepspeed.utils import nvtx

    nvtx.enable_nvtx = False
    zero = engine.optimizer
    zero.step = partial(_step, zero)
    stream = zero.reduce_and_partition_stream
    if stream is not None:  # on a GPU
        stream.synchronize = partial(_let_stream_wait, stream)


def _let_stream_wait(stream: torch.cuda.Stream) -> None:
    torch.cuda.current_stream().wait_stream(stream)


def _step(zero: Any, closure: None = None) -> None:
    """DeepSpeed's, without what only offloading, other optimizers and float16 want."""
    with torch.no_grad():
        zero._pre_step()
        zero._partition_all_parameters()
        norm = _norm(zero)
        zero._global_grad_norm = norm
        zero.zero_grad()
        for group in range(len(zero.fp16_groups)):
            zero._prepare_sub_group(group, None)
            zero.unscale_and_clip_grads(group, norm)
            zero._optimizer_step(group)
            zero._reassign_or_swap_out_partitioned_parameters(group)
            zero._release_sub_group(group, None)
        _gather_small(zero.persistent_parameters)


def _norm(zero: Any) -> torch.Tensor:
    """Of the gradient over all processes, a scalar."""
    squares = torch.stack([square(zero.averaged_gradients[i]) for i in range(len(zero.fp16_groups))])
    distributed.all_reduce(squares)
    return squares.sum().sqrt()


def _gather_small(weights: list[Any]) -> None:
    """Make weights whole that stay whole between two steps, from the pieces that the processes have stepped."""
    from deepspeed.runtime.zero.partition_parameters import ZeroParamStatus

    if not weights:
        return
    piece = torch.cat([one.ds_tensor for one in weights])
    pieces = piece.new_empty(distributed.get_world_size(), len(piece))
    gather(pieces.view(-1), piece)
    for one, parts in zip(weights, pieces.split([one.ds_tensor.numel() for one in weights], dim=1), strict=True):
        one.data = parts.reshape(-1)[: one.ds_numel].view(one.ds_shape)
        one.ds_status = ZeroParamStatus.AVAILABLE
