"""The Muon optimizer in float32: momentum whose matrices are made nearly orthogonal before they are applied.

Method: K. Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024). Matrices of one shape go
through the iteration together: with models this small a step costs launches, not arithmetic. `torch.optim.Muon` works
in bfloat16, which CPUs without such units emulate slowly.
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


class Muon(torch.optim.Optimizer):  # type: ignore[misc] # torch is not followed by the type check
    """For the two-dimensional weights of hidden layers; embeddings and norms belong to another optimizer."""

    def __init__(
        self, params: Iterable[torch.nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def step(self, closure: None = None) -> None:
        """Apply one update from the gradients in place; closures are not used."""
        with torch.no_grad():
            for group in self.param_groups:
                self._update(group)

    def _update(self, group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[torch.nn.Parameter]] = defaultdict(list)
        for parameter in group["params"]:
            by_shape[parameter.shape].append(parameter)
        for shape, parameters in by_shape.items():
            rate = group["lr"] * max(1, shape[0] / shape[1]) ** 0.5
            updates = orthogonal(torch.stack([self._direction(p, group["momentum"]) for p in parameters]))
            for parameter, update in zip(parameters, updates, strict=True):
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-rate)

    def _direction(self, parameter: torch.nn.Parameter, momentum: float) -> torch.Tensor:
        """Nesterov's look-ahead between the gradient and its running mean."""
        gradient = parameter.grad
        if gradient is None:
            raise ValueError("Muon needs a gradient for every parameter; one of them took no part in the loss.")
        mean = self.state[parameter].setdefault("mean", torch.zeros_like(parameter))
        mean.lerp_(gradient, 1 - momentum)
        return gradient.lerp(mean, momentum)


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """Near-orthogonal versions of a stack of matrices (count, rows, columns): singular values drawn towards one."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(NEWTON_SCHULZ_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
