"""Prometheus metrics of inference. Labels are bounded: a role, a stage, a finish reason, a kind of engine; never a run."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

from overproof.inference.ports import Completion

TOKENS = Counter(
    "overproof_tokens_total",
    "Tokens by the role of the model: read (prompt) or made (generation).",
    ["role", "stage", "kind"],
)
COMPLETIONS = Counter(
    "overproof_completions_total", "Completions by role and finish reason.", ["role", "stage", "finish"]
)
BUSY_SECONDS = Counter(
    "overproof_model_busy_seconds_total",
    "Seconds inside generation, counted as they pass: their rate is the share of time that the model is at work.",
    ["role", "stage"],
)
RUNNING = Gauge("overproof_sequences_running", "Sequences that the engine generates now.", ["role", "stage"])
WAITING = Gauge(
    "overproof_sequences_waiting", "Sequences handed to the engine that wait for a place.", ["role", "stage"]
)
LOAD_SECONDS = Histogram(
    "overproof_model_load_seconds",
    "Seconds to load a model, by kind of engine.",
    ["engine"],
    buckets=(0.1, 0.5, 1, 5, 15, 30, 60, 120, 300, 900),
)


def count(role: str, stage: str, completion: Completion) -> None:
    """One finished completion."""
    COMPLETIONS.labels(role, stage, completion.finish_reason).inc()
    TOKENS.labels(role, stage, "prompt").inc(completion.prompt_tokens)
    TOKENS.labels(role, stage, "generation").inc(completion.n_tokens)
