"""How much memory and time a training will take, by formula: to refuse what cannot fit before a GPU is taken.

States: ZeRO (Rajbhandari et al. 2019, arXiv 1910.02054): 2 bytes per weight, 2 per gradient and 12 of AdamW in mixed precision
(float32 weights and two moments), each cut by the number of processes from stage 3, 2 and 1 on. Activations: what backward
needs of each layer, counted as in Korthikanti et al. 2022 (arXiv 2205.05198), for a gated feed-forward layer and
attention that keeps no scores. Peaks measured on an H200 (docs/benchmarks.md) were 3 to 12 % lower.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

from overproof.shared.recipe import TrainingOptions
from overproof.training.domain import logits
from overproof.training.domain.batches import batch_of
from overproof.training.domain.deepspeed_config import exchanges_early
from overproof.training.domain.groups import UNDERWAY, largest

GIB = 2**30
BYTES = {"float32": 4, "bfloat16": 2}
NF4_BYTES = 0.52
"""Per weight in four bits with double quantisation (QLoRA, arXiv 2305.14314, section 3: 0.5 + 0.127 / 8)."""
BLOCK = 256
"""Weights whose moments in eight bits share a float32 scale each (bitsandbytes' `optim/optimizer.py`)."""
OUTSIDE = 1 * GIB
"""CUDA's context, its libraries' workspaces, NCCL's buffers: memory that torch does not count. A rule of thumb."""
ASSUMED_MFU = 0.3
"""Share of the device's peak that the time is reckoned with; docs/benchmarks.md has what was measured."""
LAUNCH_SECONDS = 3e-3
"""That Python takes to launch one layer's kernels, forward and backward, however few tokens a pass has. A rule of thumb."""
BY_FAR = 1.3
"""A training is refused when it needs this many times the device's memory: the formula is not exact."""


class Sizes(NamedTuple):
    """A decoder's dimensions."""

    layers: int
    width: int
    queries: int
    """Heads x width of a head."""
    keys: int
    """Key heads x width of a head."""
    inner: int
    """Width of the feed-forward layer."""
    vocabulary: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Self | None:
        """From a `config.json`; None where it is not a dense decoder of the usual names."""
        text = config.get("text_config") or config
        if any(name in text for name in ("num_experts", "num_local_experts", "n_routed_experts")):
            return None
        try:
            heads = text["num_attention_heads"]
            head = text.get("head_dim") or text["hidden_size"] // heads
            keys = (text.get("num_key_value_heads") or heads) * head
            return cls(
                text["num_hidden_layers"], text["hidden_size"], heads * head, keys, text["intermediate_size"], text["vocab_size"]
            )  # fmt: skip
        except KeyError:
            return None

    @property
    def layer(self) -> int:
        """Weights of one layer's matrices."""
        return self.width * (2 * self.queries + 2 * self.keys + 3 * self.inner)

    @property
    def head(self) -> int:
        """Weights of the output layer."""
        return self.width * self.vocabulary

    def adapters(self, rank: int) -> int:
        """Weights of adapters beside every matrix of every layer."""
        ends = 4 * self.width + 2 * self.queries + 2 * self.keys + 3 * (self.width + self.inner)
        return rank * ends * self.layers


class Memory(NamedTuple):
    """Bytes of one process on its device, at the worst moment."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    """Or, where it is more, what the optimizer's step needs for a moment."""
    buffers: float
    outside: float
    host: float
    """In the CPU's memory, with offload."""

    @property
    def device(self) -> float:
        """All but the host's."""
        return sum(self) - self.host

    def as_gib(self) -> dict[str, float]:
        """For `preflight.json`."""
        return {
            f"{name}_gib": round(value / GIB, 2) for name, value in (self._asdict() | {"device": self.device}).items()
        }


def trained_weights(sizes: Sizes | None, n_parameters: int, options: TrainingOptions) -> int:
    """Weights that get a gradient."""
    if options.lora is None or sizes is None:
        return n_parameters
    return sizes.adapters(options.lora.rank)


def memory_of(
    sizes: Sizes, n_parameters: int, options: TrainingOptions, tokens: int, bucket: int, *, fused: bool
) -> Memory:
    """`tokens`: of the largest forward pass; `bucket`: elements of DeepSpeed's; `fused`: whether norms and gates are one kernel each."""
    trained = trained_weights(sizes, n_parameters, options)
    size, stage, share = BYTES[options.dtype], options.zero_stage, 1 / options.processes
    mixed = options.dtype == "bfloat16"
    optimizer = trained * _state(options) * (share if stage else 1)
    # a float32 copy of the gradients: stage 0 adds them up in it, 1 and 2 make it of one group's part at a time, 3 of its whole part
    copied = largest(trained, sizes.head) if stage in (1, 2) else trained
    copy = copied * 4 * (share if stage else 1) if mixed else 0
    activations = activation_bytes(sizes, options, tokens, fused=fused) + _loss_bytes(sizes, options, tokens)
    weights = _frozen_or_not(sizes, n_parameters, options) * (share if stage == 3 else 1) + (
        trained * size if options.lora else 0
    )
    buffers = _exchanged(sizes, trained, options, bucket)
    if stage == 3:  # two layers, and the largest matrix, are whole at a time
        buffers += min(n_parameters, 2 * sizes.layer + sizes.head) * size
    off = {"none": 0.0, "optimizer": optimizer, "parameters": optimizer + weights}[options.offload]
    return Memory(
        weights=0 if options.offload == "parameters" else weights,
        gradients=trained * size * (share if stage >= 2 else 1),
        optimizer=optimizer if options.offload == "none" else 0,
        activations=max(activations, copy if options.offload == "none" else 0),
        buffers=buffers,
        outside=OUTSIDE,
        host=off,
    )


def checkpoint_bytes(trained: int, options: TrainingOptions) -> int:
    """Of one checkpoint on the disk, all processes together, for so many trained weights: the weights, under ZeRO 0 to 2 once more in
    DeepSpeed's own file, and the optimizer's state."""
    size = BYTES[options.dtype]
    return round(trained * (size + (size if options.zero_stage < 3 else 0) + _state(options)))


def _exchanged(sizes: Sizes, trained: int, options: TrainingOptions, bucket: int) -> float:
    """Bytes of gradients on their way: of whole groups (`adapters.exchange`), else DeepSpeed's two buckets."""
    if not options.zero_stage:
        return 0
    if not exchanges_early(options):
        return 2 * bucket * BYTES[options.dtype]
    return UNDERWAY * largest(trained, sizes.head) * BYTES[options.dtype] if options.processes > 1 else 0


def _state(options: TrainingOptions) -> float:
    """Bytes per trained weight of the optimizer: its two moments and, but in float32 at stage 0, float32 weights."""
    copy = 4 if options.dtype == "bfloat16" or options.zero_stage else 0
    return copy + (8 if options.optimizer == "adamw" else 2 + 8 / BLOCK)


def activation_bytes(sizes: Sizes, options: TrainingOptions, tokens: int, *, fused: bool) -> float:
    """What backward needs: of all layers, or with gradient checkpointing each layer's input and one layer whole; with a selective one no
    outputs of norms, and of the gated layer the factors only."""
    size = BYTES[options.dtype]
    attention = 2 * sizes.queries + 2 * sizes.keys
    elements = 4 * sizes.width + attention + 3 * sizes.inner
    if options.gradient_checkpointing == "selective":
        elements -= 2 * sizes.width + (sizes.inner if fused else 0)
    if not fused:  # norms keep float32 copies, the gate its activation
        elements += (4 if size == 4 else 8) * sizes.width + sizes.inner
    if options.gradient_checkpointing is True:
        return float(tokens * size * (sizes.layers * sizes.width + elements))
    return float(tokens * size * sizes.layers * elements)


def seconds_of(flops: float, passes: float, layers: int, options: TrainingOptions, peak: float) -> float:
    """Of the whole training: what its arithmetic takes, or the launching of its kernels where that is more.

    `flops`: of all devices; `passes`: of one process; `peak`: operations per second of one device. Checkpointing makes each
    forward pass twice.
    """
    again = 4 / 3 if options.gradient_checkpointing is True else 1.0
    return again * max(flops / (options.processes * peak * ASSUMED_MFU), passes * layers * LAUNCH_SECONDS)


def remedies(
    sizes: Sizes,
    n_parameters: int,
    options: TrainingOptions,
    tokens: int,
    bucket: int,
    bytes_there: float,
    *,
    fused: bool,
) -> list[str]:
    """Changes of the recipe, one at a time, with which the training would fit into `bytes_there`."""
    found = []
    for said, change in (_smaller_pass(options) | _CHANGES).items():
        try:
            other = TrainingOptions.model_validate(options.model_dump() | change)
        except ValueError:
            continue
        there = tokens * _width(other) // _width(options)
        if memory_of(sizes, n_parameters, other, there, bucket, fused=fused).device <= bytes_there:
            found.append(said)
    return found


def _width(options: TrainingOptions) -> int:
    """Of a forward pass, in tokens or rows."""
    return options.micro_batch_tokens or batch_of(options).micro


def _smaller_pass(options: TrainingOptions) -> dict[str, dict[str, Any]]:
    """Half of what a pass holds now, which may be less than `micro_batch_size`; none where that is one row."""
    half = _width(options) // 2
    name = "micro_batch_tokens" if options.micro_batch_tokens else "micro_batch_size"
    return {f"training.{name}: {half}": {name: half}} if half else {}


_CHANGES: dict[str, dict[str, Any]] = {
    "training.gradient_checkpointing: selective": {"gradient_checkpointing": "selective"},
    "training.gradient_checkpointing: true": {"gradient_checkpointing": True},
    "training.lora: {rank: 16}": {"lora": {"rank": 16}},
    "training.lora: {rank: 16} with gradient_checkpointing": {"lora": {"rank": 16}, "gradient_checkpointing": True},
    "training.lora: {quantize: nf4} with gradient_checkpointing": {"lora": {"quantize": "nf4"}, "gradient_checkpointing": True},
    "training.optimizer: adamw_8bit": {"optimizer": "adamw_8bit"},
    "training.optimizer: adamw_8bit with gradient_checkpointing": {"optimizer": "adamw_8bit", "gradient_checkpointing": True},
    "training.zero_stage: 3": {"zero_stage": 3},
    "training.zero_stage: 3 with gradient_checkpointing": {"zero_stage": 3, "gradient_checkpointing": True},
    "training.offload: optimizer": {"zero_stage": 2, "offload": "optimizer"},
    "training.offload: optimizer with gradient_checkpointing": {"zero_stage": 2, "offload": "optimizer", "gradient_checkpointing": True},
}  # fmt: skip


def _frozen_or_not(sizes: Sizes, n_parameters: int, options: TrainingOptions) -> float:
    size = BYTES[options.dtype]
    if options.lora and options.lora.quantize == "nf4":
        quantized = sizes.layers * sizes.layer
        return quantized * NF4_BYTES + max(0, n_parameters - quantized) * size
    return float(n_parameters * size)


def _loss_bytes(sizes: Sizes, options: TrainingOptions, tokens: int) -> float:
    """Logits, their float32 copy and its gradient: of all tokens, or of one chunk."""
    return float(logits.held(options, tokens, sizes.vocabulary) * (BYTES[options.dtype] + 8))
