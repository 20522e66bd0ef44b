"""How completions are made: engines, sampling, evaluation."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from overproof.shared.recipe.part import MAX_SAMPLES, Part, Scalar


class EngineOptions(Part):
    """Which engine samples, and how it is set up."""

    kind: Literal["transformers", "vllm", "openai", "canned"] = "vllm"
    """transformers: any machine, slow; vllm: GPUs (or vLLM's CPU build); openai: a server that speaks OpenAI's chat completions, at
    `OVERPROOF_OPENAI_BASE_URL`; canned: no model at all, for measuring the pipeline."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    max_model_len: int | None = Field(None, ge=64)
    """Prompt + completion tokens; None: what the model's config says."""
    batch_size: int = Field(64, ge=1, le=4096)
    """Sequences that the Transformers engine runs at once."""
    tensor_parallel_size: int = Field(1, ge=1, le=64)
    gpu_memory_utilization: float = Field(0.9, gt=0, le=1)
    min_success_ratio: float = Field(0.99, ge=0, le=1)
    """A shard with fewer prompts answered than this share fails; single failed prompts become rows with the reason."""
    options: dict[str, Scalar] = Field({})
    """Further vLLM engine arguments by their own names (`enforce_eager: true`); objects as one line of JSON. openai: further
    fields of the request's body."""
    logprobs: bool = False
    """Whether the mean log-probability of each completion is kept; Transformers has it for free, others compute it."""
    price_per_million_prompt_tokens: float = Field(0.0, ge=0)
    """openai: US dollars for what the server reads."""
    price_per_million_completion_tokens: float = Field(0.0, ge=0)
    """openai: US dollars for what it writes, reasoning with it."""
    budget_usd: float | None = Field(None, gt=0)
    """openai: the run pauses once its own completions have cost this much; None: no limit."""

    @model_validator(mode="after")
    def _priced(self) -> Self:
        prices = self.price_per_million_prompt_tokens + self.price_per_million_completion_tokens
        if self.kind != "openai" and (prices or self.budget_usd is not None):
            raise ValueError("prices and budget_usd are for kind openai; remove them, or choose kind: openai")
        if self.budget_usd is not None and not prices:
            raise ValueError("budget_usd counts nothing without prices; set price_per_million_completion_tokens too")
        return self

    def cost_usd(self, prompt_tokens: float, completion_tokens: float) -> float:
        """What this many tokens cost in US dollars."""
        per_million = (
            prompt_tokens * self.price_per_million_prompt_tokens
            + completion_tokens * self.price_per_million_completion_tokens
        )
        return per_million / 1e6


ACCOUNTING = {"price_per_million_prompt_tokens", "price_per_million_completion_tokens", "budget_usd"}
"""Fields of EngineOptions that say what completions cost, not what they are: no artifact's key depends on them."""


class SamplingOptions(Part):
    """How the teacher solves the training problems."""

    samples_per_pass: int = Field(4, ge=1, le=MAX_SAMPLES)
    """Completions per unfinished problem in one pass."""
    max_samples: int = Field(8, ge=1, le=MAX_SAMPLES)
    """Never more completions than this for one problem."""
    enough: int | None = Field(None, ge=1)
    """A problem with this many correct completions is finished; None: every problem gets max_samples."""
    quota: Literal["uniform", "difficulty"] = "uniform"
    """uniform: every problem is to have `enough` correct completions. difficulty: in proportion to its failure rate so far, from one up to
    `enough` (DART's Uniform and Prop2Diff, arXiv 2407.13690), so that what easy problems leave is spent on hard ones."""
    temperature: float = Field(0.7, ge=0, le=4)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=0)
    max_tokens: int = Field(2048, ge=1, le=1_000_000)
    stop: tuple[str, ...] = ()
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _differ(self) -> Self:
        if self.temperature == 0 and self.max_samples > 1:
            raise ValueError(
                "max_samples > 1 with temperature 0 draws the same completion again and again; raise the temperature"
            )
        if self.quota == "difficulty" and self.enough is None:
            raise ValueError(
                "quota: difficulty shares out correct completions: say how many are enough (sampling.enough)"
            )
        return self


class EvaluationOptions(Part):
    """One evaluation spec for every model."""

    samples: int = Field(1, ge=1, le=MAX_SAMPLES)
    temperature: float = Field(0.0, ge=0, le=4)
    top_p: float = Field(1.0, gt=0, le=1)
    max_tokens: int = Field(2048, ge=1, le=1_000_000)
    stop: tuple[str, ...] = ()
    seed: int = Field(0, ge=0, lt=2**31)
    resamples: int = Field(2000, ge=100, le=100_000)
    """Bootstrap resamples behind every interval."""
