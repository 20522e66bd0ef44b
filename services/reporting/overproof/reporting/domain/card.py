"""A student's model card with its results: training wrote the card before there were any."""

from __future__ import annotations

import json
import re

from overproof.reporting.domain.material import Row

HEADING = "## Results"
SECTION = re.compile(rf"^{HEADING}\n.*?(?=^## |\Z)", re.DOTALL | re.MULTILINE)
FRONT_END = re.compile(r"\A---\n.*?^---$", re.DOTALL | re.MULTILINE)


def with_results(card: str, results: str, index: str) -> str:
    """The card with `results` (Markdown) as its section "Results", and `index` (YAML lines) at the end of its front matter.

    A card without that section gets it at its end; one without front matter keeps none.
    """
    section = f"{HEADING}\n\n{results.strip()}\n\n"
    card, found = SECTION.subn(lambda _: section, card, count=1)
    card = card if found else f"{card.rstrip()}\n\n{section}"
    front = FRONT_END.match(card)
    return card if front is None else card[: front.end() - 3] + index + card[front.end() - 3 :]


def model_index(name: str, data: str, row: Row) -> str:
    """The results as the Hugging Face hub reads them from a card (`model-index`), intervals beside each value.

    Reads accuracy, accuracy_low, accuracy_high, tokens_mean, n of one row of COMPARISON.
    """
    metrics = [
        {
            "type": "accuracy",
            "value": round(row["accuracy"], 4),
            "name": f"accuracy, n = {row['n']}, 95 % interval {row['accuracy_low']:.3f} to {row['accuracy_high']:.3f}",
        },
        {"type": "tokens", "value": round(row["tokens_mean"], 2), "name": "mean tokens per solution"},
    ]
    result = {
        "task": {"type": "text-generation"},
        "dataset": {"type": data, "name": data},
        "metrics": metrics,
    }
    return "model-index: " + json.dumps([{"name": name, "results": [result]}], ensure_ascii=False) + "\n"
