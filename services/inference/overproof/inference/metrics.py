"""Prometheus metrics of inference. Labels are bounded: a role, a finish reason, a kind of engine."""

from __future__ import annotations

from prometheus_client import Counter, Histogram

from overproof.inference.ports import Completion

TOKENS = Counter(
    "overproof_tokens_total", "Tokens by the role of the model: read (prompt) or made (generation).", ["role", "kind"]
)
COMPLETIONS = Counter("overproof_completions_total", "Completions by role and finish reason.", ["role", "finish"])
BUSY_SECONDS = Counter("overproof_model_busy_seconds_total", "Seconds inside generation, by role.", ["role"])
LOAD_SECONDS = Histogram(
    "overproof_model_load_seconds",
    "Seconds to load a model, by kind of engine.",
    ["engine"],
    buckets=(0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 900),
)


def count(role: str, completion: Completion) -> None:
    """One finished completion."""
    COMPLETIONS.labels(role, completion.finish_reason).inc()
    TOKENS.labels(role, "prompt").inc(completion.prompt_tokens)
    TOKENS.labels(role, "generation").inc(completion.n_tokens)
