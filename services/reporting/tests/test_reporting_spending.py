"""What a report says of money."""

from __future__ import annotations

from typing import Any

import pytest

from overproof.reporting.domain.spending import spending
from overproof.shared.recipe import Recipe

PRICED = {"kind": "openai", "price_per_million_prompt_tokens": 2.0, "price_per_million_completion_tokens": 8.0}
NOTES: list[dict[str, Any]] = [
    {"spent": {"a": {"prompt_tokens": 100_000, "tokens": 400_000, "shards": 1}}, "tokens": 400_000},
    {"spent": {"b": {"prompt_tokens": 150_000, "tokens": 100_000, "shards": 1}}},
    {"tokens": 9_999_999},  # sampled here
]


def recipe(**how: Any) -> Recipe:
    source = {"generator": "demo-math", "n": 10, "split": "test"}
    models = {"teacher": "hosted", "student": "student", "evaluate": ["hosted"]}
    return Recipe.model_validate({"name": "r", "data": {"train": source, "test": source}, "models": models, **how})


@pytest.mark.parametrize("how", [{"teacher_engine": PRICED}, {"goal": "evaluate", "engine": PRICED}])
def test_served_completions_cost_the_same_whoever_paid(how: dict[str, Any]) -> None:
    found = spending(recipe(**how), NOTES)
    assert found is not None
    assert found[:3] == pytest.approx((250_000, 500_000, 0.5 + 4.0))
    assert found.sentence.startswith(
        "The served completions behind this report cost $4.50: 250,000 tokens read at $2 and 500,000 written at $8 per million;"
    )


@pytest.mark.parametrize("how", [{}, {"teacher_engine": {"kind": "openai"}}])
def test_without_prices_nothing_is_said(how: dict[str, Any]) -> None:
    assert spending(recipe(**how), NOTES) is None
