"""Activations that are cheap to compute: backward makes them again from tensors it keeps anyway, instead of keeping them too.

Of a decoder layer these are the outputs of its norms and the product of gate and input in its feed-forward layer: an
elementwise pass over memory each, where gradient checkpointing repeats the matrix products as well. (Selective recomputation,
Korthikanti et al. 2022, arXiv 2205.05198; here by https://docs.pytorch.org/docs/stable/autograd.html#torch.autograd.graph.saved_tensors_hooks)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch.autograd.graph import saved_tensors_hooks

Make = Callable[[], torch.Tensor]


class Again:
    """A tensor that several operations have saved: it is made for the first that asks in backward, and dropped after the last."""

    def __init__(self, tensor: torch.Tensor, make: Make) -> None:
        self.tensor: torch.Tensor | None = tensor
        """The one of the forward pass, held until its layer is done: no other tensor can lie where it lies."""
        self.users = 0
        self._make = make
        self._served = 0

    def value(self) -> torch.Tensor:
        if self.tensor is None:
            with torch.no_grad():
                self.tensor = self._make()
        tensor = self.tensor
        self._served += 1
        if self._served == self.users:
            self._served, self.tensor = 0, None
        return tensor


class Saved(NamedTuple):
    """What stands for a tensor that an operation would have saved: the same elements, perhaps in another shape."""

    again: Again
    shape: torch.Size
    stride: tuple[int, ...]


class Recomputation:
    """Of one model: what its current layer can make again."""

    def __init__(self) -> None:
        self._known: dict[int, Again] = {}  # by the tensor's address

    def remember(self, tensor: torch.Tensor, make: Make) -> None:
        """Whoever saves this tensor in the current layer gets it from `make`, which must give the same elements."""
        if torch.is_grad_enabled():
            self._known[tensor.data_ptr()] = Again(tensor, make)

    def run(self, forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """A layer's forward pass."""
        if not torch.is_grad_enabled():
            return forward(*args, **kwargs)
        try:
            with saved_tensors_hooks(self._pack, _unpack):
                return forward(*args, **kwargs)
        finally:
            for again in self._known.values():
                again.tensor = None
            self._known = {}

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor | Saved:
        again = self._known.get(tensor.data_ptr())
        if again is None or again.tensor is None or tensor.numel() != again.tensor.numel():
            return tensor
        again.users += 1
        return Saved(again, tensor.shape, tensor.stride())


def _unpack(saved: torch.Tensor | Saved) -> torch.Tensor:
    if isinstance(saved, torch.Tensor):
        return saved
    return saved.again.value().as_strided(saved.shape, saved.stride)


def attach(
    model: Any, gated: Callable[..., Any] | None, multiply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
) -> None:
    """Let every decoder layer of the model compute again what is cheap: the outputs of its norms, and gated products.

    `gated`: the forward function of feed-forward layers that are `down_proj(multiply(gate_proj(x), up_proj(x)))`; others stay as they are.
    `multiply` keeps its two arguments only.
    """
    recomputation = Recomputation()
    for layer in getattr(model.base_model, "layers", ()):
        for child in layer.children():
            if _is_norm(child):
                child.register_forward_hook(partial(_after_norm, recomputation))
            if getattr(child.forward, "__func__", None) is gated:
                child.forward = partial(_feed_forward, recomputation, multiply, child)
        layer.forward = partial(recomputation.run, layer.forward)


def finds_norms(model: Any) -> bool:
    """Whether there is a norm whose output `attach` would let the model make again."""
    layers = getattr(model.base_model, "layers", ())
    return any(_is_norm(child) for layer in layers for child in layer.children())


def _is_norm(layer: Any) -> bool:
    return type(layer).__name__.endswith("RMSNorm")


def _after_norm(recomputation: Recomputation, norm: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
    recomputation.remember(output, partial(norm.forward, inputs[0].detach()))


def _feed_forward(
    recomputation: Recomputation,
    multiply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    layer: Any,
    x: torch.Tensor,
) -> Any:
    gate, up = layer.gate_proj(x), layer.up_proj(x)
    product = multiply(gate, up)
    recomputation.remember(product, partial(multiply, gate.detach(), up.detach()))
    return layer.down_proj(product)
