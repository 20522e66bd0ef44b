"""How the student is trained."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from overproof.shared.deepspeed_keys import objection
from overproof.shared.recipe.part import Part

EMBEDDINGS = frozenset({"lm_head", "embed_tokens", "wte", "embed_out", "word_embeddings"})
"""Usual names of embedding and output layers."""


def _unset(value: object) -> bool:
    """Fields left so are not written: recipes and artifacts from before the field was there keep their keys."""
    return value in (None, "none", "adamw")


class LoraOptions(Part):
    """Train low-rank adapters (Hu et al. 2021, arXiv 2106.09685) instead of all weights; they are merged into the student at the end."""

    rank: int = Field(16, ge=1, le=1024)
    alpha: float = Field(32, gt=0)
    """The adapter's product is scaled by alpha / rank."""
    dropout: float = Field(0, ge=0, lt=1)
    """Share of an adapter's inputs that is left out in training."""
    targets: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Layers that get an adapter, by the end of their name (q_proj, down_proj); all-linear: every one but the output layer."""
    quantize: Literal["none", "nf4"] = "none"
    """nf4: hold the frozen weights in four bits (QLoRA, Dettmers et al. 2023, arXiv 2305.14314). Needs a GPU and bitsandbytes."""

    @model_validator(mode="after")
    def _layers(self) -> Self:
        if not self.targets:
            raise ValueError("targets names no layer; leave it out to adapt every linear one")
        tied = [name for name in self.targets if name.rpartition(".")[2] in EMBEDDINGS]
        if self.targets != "all-linear" and tied:
            raise ValueError(
                f"targets may not hold {tied[0]}: embedding and output layer often share their weights, which a merge would change twice"
            )
        return self


class ProbeOptions(Part):
    """Solutions that the student writes while it is being trained, greedily, for a fixed set of validation problems."""

    every_steps: int = Field(100, ge=1)
    """Optimizer steps between two probes; one comes before the first step and one after the last, too."""
    problems: int = Field(32, ge=1, le=1024)
    """How many validation problems, drawn by the training's seed; never test problems."""
    max_tokens: int = Field(1024, ge=1, le=1_000_000)
    """Longest solution; a longer one is counted as truncated."""


class TrainingOptions(Part):
    """Supervised fine-tuning of the student."""

    epochs: float = Field(3, gt=0, le=1000)
    max_steps: int | None = Field(None, ge=1)
    """Stop after this many optimizer steps, whatever `epochs` says: equal budgets for policies that keep more or fewer rows."""
    learning_rate: float = Field(1e-5, gt=0, le=1)
    scheduler: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_share: float = Field(0.05, ge=0, lt=1)
    global_batch_size: int = Field(32, ge=1)
    """Rows per optimizer step over all processes."""
    micro_batch_size: int = Field(8, ge=1)
    """Rows per process and forward pass; accumulation follows."""
    global_batch_tokens: int | None = Field(None, ge=16)
    """Tokens per optimizer step over all processes, instead of `global_batch_size` rows; needs `micro_batch_tokens`."""
    micro_batch_tokens: int | None = Field(None, ge=16)
    """Pack rows end to end, at most this many tokens per process and forward pass, instead of padding `micro_batch_size` rows."""
    max_length: int = Field(4096, ge=16)
    """Prompt + completion tokens; longer rows are dropped and counted, never cut."""
    weight_decay: float = Field(0.01, ge=0)
    adam_beta2: float = Field(0.999, gt=0, lt=1)
    max_grad_norm: float = Field(1.0, gt=0)
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    gradient_checkpointing: bool | Literal["selective"] = False
    """What of a forward pass backward computes again instead of keeping it: whole layers (true), which takes a third more arithmetic; only
    the outputs of norms and the gated product (selective), a few per cent more time where passes are large; nothing (false)."""
    zero_stage: Literal[0, 1, 2, 3] = 1
    deepspeed: dict[str, Any] = Field({})
    """Merged over the DeepSpeed configuration that follows from the fields above; keys that fight with them are refused."""
    processes: int = Field(1, ge=1, le=4096)
    """Ranks: one per GPU, or CPU processes over gloo."""
    save_every_steps: int = Field(100, ge=1)
    evaluations_per_epoch: int = Field(1, ge=0, le=100)
    """Times per epoch that the validation loss is computed."""
    patience: int | None = Field(None, ge=1)
    """Stop after this many validations without a better loss; None: never."""
    probe: ProbeOptions | None = None
    """Watch accuracy and tokens over the training; None: the student writes nothing before it is finished."""
    choose_by: Literal["loss", "accuracy", "last"] = "loss"
    """Which weights become the student: lowest validation loss, most correct solutions of a probe, or the last ones."""
    seed: int = Field(0, ge=0, lt=2**31)
    start_from: Literal["base", "previous"] = "base"
    """In rounds after the first: train the base student again, or go on from the last round's student."""
    lora: LoraOptions | None = Field(None, exclude_if=_unset)
    """Train adapters only; None: all weights."""
    neftune_alpha: float | None = Field(None, gt=0, exclude_if=_unset)
    """Noise on the embeddings in training (NEFTune, Jain et al. 2023, arXiv 2310.05914); 5 to 15 are usual."""
    offload: Literal["none", "optimizer", "parameters"] = Field("none", exclude_if=_unset)
    """Keep the optimizer's state, or the weights too, in the CPU's memory: slower, for students that do not fit."""

    optimizer: Literal["adamw", "adamw_8bit"] = Field("adamw", exclude_if=_unset)
    """adamw_8bit: hold AdamW's two moments in eight bits each, 6 bytes per trained weight less (Dettmers et al. 2021, arXiv 2110.02861).
    Needs bitsandbytes."""

    @property
    def needs_bitsandbytes(self) -> bool:
        """Whether moments are held in eight bits, or weights in four."""
        return self.optimizer == "adamw_8bit" or (self.lora is not None and self.lora.quantize == "nf4")

    @model_validator(mode="after")
    def _deepspeed_is_allowed(self) -> Self:
        if said := objection(self.deepspeed, self.zero_stage):
            raise ValueError(said)
        return self

    @model_validator(mode="after")
    def _sharding_allows(self) -> Self:
        if self.lora and self.lora.quantize == "nf4":
            if self.zero_stage == 3:
                raise ValueError(
                    "lora.quantize nf4 needs zero_stage 0, 1 or 2: weights in four bits cannot be cut into pieces"
                )
            if self.dtype != "bfloat16":
                raise ValueError("lora.quantize nf4 needs dtype bfloat16, in which it computes")
        if self.offload == "optimizer" and not self.zero_stage:
            raise ValueError("offload optimizer needs zero_stage 1, 2 or 3")
        if self.offload != "none" and self.optimizer == "adamw_8bit":
            raise ValueError(
                "optimizer adamw_8bit makes its step on the GPU: leave offload out, or take optimizer adamw, which steps on the CPU"
            )
        if self.offload == "parameters" and self.zero_stage != 3:
            raise ValueError(
                "offload parameters needs zero_stage 3: only there are weights fetched when they are needed"
            )
        return self

    @model_validator(mode="after")
    def _accuracy_is_watched(self) -> Self:
        if self.choose_by == "accuracy" and self.probe is None:
            raise ValueError(
                "choose_by accuracy needs probe: say how often, on how many problems, e.g. probe: {every_steps: 50}"
            )
        return self

    @model_validator(mode="after")
    def _patience_is_tried(self) -> Self:
        if self.patience is not None and not self.evaluations_per_epoch:
            raise ValueError(
                "patience counts validations, and evaluations_per_epoch 0 makes none: raise it, or leave patience out"
            )
        return self

    @model_validator(mode="after")
    def _batch_divides(self) -> Self:
        if self.micro_batch_tokens is None and self.global_batch_tokens is not None:
            raise ValueError("global_batch_tokens needs micro_batch_tokens: only packed rows can be counted in tokens")
        if self.micro_batch_tokens is not None:
            if self.micro_batch_tokens < self.max_length:
                raise ValueError(
                    f"micro_batch_tokens {self.micro_batch_tokens} is less than max_length {self.max_length}: a row must fit"
                )
            return self
        if self.global_batch_size % self.processes:
            raise ValueError(
                f"global_batch_size {self.global_batch_size} is not a multiple of processes {self.processes}"
            )
        return self
