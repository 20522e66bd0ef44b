"""The optimizer's parameter groups, cut into small ones.

ZeRO 1 and 2 step group by group: a group's gradient is copied to float32, used, and freed (DeepSpeed 0.19,
`runtime/zero/stage_1_and_2.py`, `step`). With all weights in one group that copy is the largest thing of a training whose
activations are checkpointed: 4 bytes per weight. In groups of a few layers it is 4 bytes per weight of the largest group.
"""

from __future__ import annotations

from collections.abc import Sequence

MOST = 2**27
"""Weights of one group; a single matrix may have more. Half a GiB in float32."""
UNDERWAY = 2
"""Groups whose gradients may be on their way to other processes at once: backward makes the next while one travels."""


def cut(sizes: Sequence[int], most: int = MOST) -> list[slice]:
    """Runs of neighbours, in order, each of at most `most` weights unless one parameter alone has more."""
    found: list[slice] = []
    start = held = 0
    for i, size in enumerate(sizes):
        if held and held + size > most:
            found.append(slice(start, i))
            start, held = i, 0
        held += size
    return [*found, slice(start, len(sizes))] if len(sizes) else []


def largest(trained: int, widest: int) -> int:
    """Weights of the largest group, of `trained` weights whose largest matrix has `widest`."""
    return min(trained, max(MOST, widest))
