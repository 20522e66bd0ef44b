"""ZeRO 1 and 2 whose gradients travel while backward goes on, and whose weights travel while the next forward pass does.

DeepSpeed 0.19 (`runtime/zero/stage_1_and_2.py`) adds up every gradient in every process, though one process alone makes a weight's
step, and sends the stepped weights while all wait. Here a group of the optimizer (`domain.groups`) is added up in parts, each in the
process that steps it (half the bytes), as soon as backward has made its gradients; and a decoder layer waits for its own weights when
it is reached. State, checkpoints and AdamW stay DeepSpeed's, and so do the numbers, bit by bit on a CPU. A process alone saves four
copies of all gradients, one of them in float64. (ZeRO: Rajbhandari et al. 2019, arXiv 1910.02054, section 7.1; waiting layer by layer as in FSDP,
Zhao et al. 2023, arXiv 2304.11277, section 3.3.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import distributed

from overproof.training.domain.groups import UNDERWAY

_add_in_parts = getattr(distributed, "reduce_scatter_single", None) or distributed.reduce_scatter_tensor
gather = getattr(distributed, "all_gather_single", None) or distributed.all_gather_into_tensor
"""As they are called from torch 2.13 on, and before."""


class Underway(NamedTuple):
    """The gradients of a group, on their way to the processes that step them."""

    work: Any
    whole: torch.Tensor
    """Read until the work is done."""
    part: torch.Tensor
    """This process' part of the sum over all."""


class Exchange:
    """Of one DeepSpeed engine at stage 1 or 2: takes the place of its optimizer's reduction and step."""

    def __init__(self, engine: Any) -> None:
        zero = engine.optimizer
        self._zero = zero
        self._rank, self._processes = distributed.get_rank(), distributed.get_world_size()
        # of its own: what Trainer sends between two steps (losses, counts) would queue up behind the weights
        self._team = distributed.new_group() if self._processes > 1 else None
        place = {one: i for i, one in enumerate(engine.module.parameters())}
        numbers = range(len(zero.bit16_groups))
        self._first_used = sorted(numbers, key=lambda i: min(place[one] for one in zero.bit16_groups[i]))
        self._gradients: dict[int, Underway] = {}
        self._parts: dict[int, torch.Tensor] = {}  # gradients that have arrived, of all passes since the last step
        self._weights: dict[int, Any] = {}  # those underway: group → work
        self._begin()

    def _begin(self) -> None:
        """Nothing is made yet. All processes send in one order, whatever backward makes first."""
        self._unmade = [set(group) for group in self._zero.bit16_groups]
        self._unsent = deque(reversed(self._first_used))

    def _gradient_made(self, group: int, weight: torch.nn.Parameter) -> None:
        """Backward has added to the gradient of a weight. Stage 1 keeps it until a step's last pass."""
        if not (self._zero.partition_gradients or self._zero.is_gradient_accumulation_boundary()):
            return
        self._unmade[group].discard(weight)
        while self._unsent and not self._unmade[self._unsent[0]]:
            self._send(self._unsent.popleft())

    def send_rest(self, **_: Any) -> None:
        """Backward is over: groups with weights that took no part in it."""
        while self._unsent:
            self._send(self._unsent.popleft())
        self._begin()

    def _send(self, group: int) -> None:
        if self._processes == 1:
            return
        self._collect(group)
        while len(self._gradients) >= UNDERWAY:
            self._collect(next(iter(self._gradients)))
        whole = torch.zeros_like(self._zero.bit16_groups_flat[group])
        self._lay(group, whole)
        part = whole.new_empty(len(whole) // self._processes)
        work = _add_in_parts(part, whole, group=self._team, async_op=True)
        self._gradients[group] = Underway(work, whole, part)

    def _collect(self, group: int) -> None:
        """Add what was sent, and let go of what it was sent from."""
        if sent := self._gradients.pop(group, None):
            sent.work.wait()
            self._parts[group] = self._parts[group].add_(sent.part) if group in self._parts else sent.part

    def _lay(self, group: int, flat: torch.Tensor) -> None:
        """Copy the gradients to where their weights lie in the flat group, and forget them."""
        zero = self._zero
        weights = zero.round_robin_bit16_groups[group]
        places = zip(zero.round_robin_bit16_offsets[group], weights, strict=True)
        pairs = [
            (flat.narrow(0, start, one.numel()), one.grad.view(-1)) for start, one in places if one.grad is not None
        ]
        if pairs:
            torch._foreach_copy_(*map(list, zip(*pairs, strict=True)))
        for one in weights:
            one.grad = None

    def step(self, closure: None = None) -> None:
        """Clip, step every group, and send its weights; returns before they have arrived."""
        with torch.no_grad():
            self.settle()
            for group in [*self._gradients]:
                self._collect(group)
            norm = self._norm()
            factor = 1.0 / torch.clamp((norm + 1e-6) / self._zero.clip_grad, min=1.0) / self._processes
            for group in self._first_used:
                self._step(group, factor)
            self._zero._global_grad_norm = norm

    def _norm(self) -> torch.Tensor:
        """Of the mean over all processes, a scalar; group by group, as DeepSpeed has it."""
        squares = torch.stack([square(self._pieces(group)) for group in range(len(self._unmade))])
        if self._processes > 1:
            distributed.all_reduce(squares, group=self._team)
        return torch.linalg.vector_norm(squares.sqrt()) / self._processes

    def _pieces(self, group: int) -> list[torch.Tensor]:
        """The gradients that this process steps; a weight that took no part counts as zero."""
        if self._processes > 1:
            return [self._parts[group]]
        weights = self._zero.bit16_groups[group]
        return [one.grad for one in weights if one.grad is not None] or [torch.zeros_like(weights[0])]

    def _step(self, group: int, factor: torch.Tensor) -> None:
        master = self._zero.single_partition_of_fp32_groups[group]
        master.grad = self._gradient(group, master).mul_(factor)
        self._zero._optimizer_step(group)
        master.grad = None
        own = self._zero.parallel_partitioned_bit16_groups[group][self._rank]
        own.copy_(master)
        if self._processes > 1:
            whole = self._zero.bit16_groups_flat[group]
            self._weights[group] = gather(whole, own, group=self._team, async_op=True)

    def _gradient(self, group: int, master: torch.Tensor) -> torch.Tensor:
        """This process' part in float32 [weights of the part]."""
        if self._processes > 1:
            return self._parts.pop(group).to(master.dtype)
        whole = torch.zeros_like(master, requires_grad=False)
        self._lay(group, whole)
        return whole

    def arrived(self, groups: Sequence[int], *_: Any) -> None:
        """Wait for the weights of these groups; on a GPU it is the stream that waits, not Python."""
        for group in groups:
            if work := self._weights.pop(group, None):
                work.wait()

    def settle(self, *_: Any) -> None:
        """Wait for all weights."""
        self.arrived(self._first_used)

    def watch(self, model: torch.nn.Module) -> None:
        """Hear of gradients, and let those wait who use weights: decoder layers and what is beside them when they are called, and who
        asks for all."""
        if self._processes == 1:
            return
        number = {one: i for i, group in enumerate(self._zero.bit16_groups) for one in group}
        for weight, group in number.items():
            weight.register_post_accumulate_grad_hook(partial(self._gradient_made, group))
        for module, weights in _units(model):
            if groups := sorted({number[one] for one in weights if one in number}):
                module.register_forward_pre_hook(partial(self.arrived, groups))
        model.register_state_dict_pre_hook(self.settle)


def square(pieces: list[torch.Tensor]) -> torch.Tensor:
    """Of their norm. On a GPU bfloat16 is added up in float32 where it lies; in float64 it would be copied first."""
    precise = torch.float32 if pieces[0].is_cuda else torch.float64
    norms = [torch.linalg.vector_norm(one, dtype=precise) for one in pieces]
    return torch.stack(norms).square().sum().float()


def _units(model: torch.nn.Module) -> Iterator[tuple[torch.nn.Module, list[torch.nn.Parameter]]]:
    """The members of the model's lists (its decoder layers) with all their weights, other modules with their own."""
    layers = [one for many in model.modules() if isinstance(many, torch.nn.ModuleList) for one in many]
    inside = {part for layer in layers for part in layer.modules()}
    for layer in layers:
        yield layer, [*layer.parameters()]
    for module in model.modules():
        if module not in inside:
            yield module, [*module.parameters(recurse=False)]


def attach(engine: Any) -> None:
    """Let an engine at stage 1 or 2 exchange as told above. DeepSpeed's own hooks on every weight go: they take Python's time in every
    pass, while kernels wait to be launched."""
    exchange, zero = Exchange(engine), engine.optimizer
    zero.reduce_gradients = zero.overlapping_partition_gradients_reduce_epilogue = exchange.send_rest
    zero.step = exchange.step
    for hook in zero._grad_acc_hooks:
        hook.remove()
    exchange.watch(engine.module)


def counters_beside_weights(optimizer: torch.optim.Optimizer) -> None:
    """AdamW's step counters on the device of what they count: a universal checkpoint leaves them where they were saved, and the fused
    AdamW reads them on its own device."""
    for weights, state in optimizer.state.items():
        if torch.is_tensor(state.get("step")):
            state["step"] = state["step"].to(weights.device)
