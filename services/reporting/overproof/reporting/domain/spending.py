"""What the completions of servers cost, whichever run paid for them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from overproof.reporting.domain.wording import count
from overproof.shared.recipe import EngineOptions, Recipe


class Spending(NamedTuple):
    """Sums over all completions behind a report."""

    prompt_tokens: int
    tokens: int
    usd: float
    sentence: str


def spending(recipe: Recipe, notes: Iterable[Mapping[str, Any]]) -> Spending | None:
    """Tokens × the recipe's prices; None when no engine has a price. Reads of the notes of shards: spent."""
    engine = recipe.engine if recipe.goal == "evaluate" else recipe.engine_of_teacher()
    if not engine.cost_usd(1, 1):
        return None
    used = [one for note in notes for one in note.get("spent", {}).values()]
    prompt_tokens, tokens = (sum(int(one[name]) for one in used) for name in ("prompt_tokens", "tokens"))
    usd = engine.cost_usd(prompt_tokens, tokens)
    return Spending(prompt_tokens, tokens, usd, _sentence(engine, prompt_tokens, tokens, usd))


def _sentence(engine: EngineOptions, prompt_tokens: int, tokens: int, usd: float) -> str:
    return (
        f"The served completions behind this report cost ${usd:,.2f}: {count(prompt_tokens)} tokens read at "
        f"${engine.price_per_million_prompt_tokens:g} and {count(tokens)} written at "
        f"${engine.price_per_million_completion_tokens:g} per million; shards that were lost are not counted, nor is any discount."
    )
