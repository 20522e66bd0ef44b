"""How much arithmetic a training step needs, and what share of the device's peak that is (MFU)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

PEAK_TFLOPS = {
    "GH200": 989, "H200": 989, "H100 PCIe": 756, "H100 NVL": 835, "H100": 989, "A100": 312, "A800": 312, "B200": 2250,
    "L40S": 362, "L4": 121, "A10G": 70, "A10": 125, "RTX 4090": 165, "RTX A6000": 155, "V100": 125,
}  # fmt: skip
"""Part of the device's name → dense bfloat16 TFLOP/s of the maker's data sheet; the first that fits counts."""


class Shape(NamedTuple):
    """What the count depends on."""

    body: int
    """Weights of the matrices that every token passes: all but embedding and output layer."""
    head: int
    """Weights of the output layer, which supervised tokens pass."""
    attention: int
    """Layers x heads x width of a head."""
    trained_share: float = 1.0
    """Of the body's weights; frozen ones need no gradient of their own."""


def step_flops(shape: Shape, totals: Sequence[int], prompts: Sequence[int]) -> float:
    """Floating-point operations of one step over rows of `totals` tokens, of which `prompts` are not supervised.

    Two per weight and token forward, two for the input's gradient, two for a trained weight's; attention over half of the
    square of each row, three times. Work done twice (gradient checkpointing) is not counted twice.
    """
    tokens, supervised = sum(totals), sum(totals) - sum(prompts)
    per_weight = 4 + 2 * shape.trained_share
    attention = 6 * shape.attention * sum(float(n) * n for n in totals)
    return per_weight * (shape.body * tokens + shape.head * supervised) + attention


def peak_flops(device: str) -> float | None:
    """Dense bfloat16 operations per second that the device can make; None when it is not known."""
    return next((tflops * 1e12 for name, tflops in PEAK_TFLOPS.items() if name in device), None)
