"""What served completions cost: tokens by the run that pays go into the receipt, dollars into a counter.

A receipt holds no dollars: they are tokens × the prices of whichever recipe looks at it, so a corrected price corrects the sum.
"""

from __future__ import annotations

from typing import Any

from prometheus_client import Counter

from overproof.inference.domain.rows import Tally
from overproof.inference.ports import Completion
from overproof.shared.specs import SampleSpec

SPENT = Counter(
    "overproof_spent_usd_total",
    "US dollars for completions of servers, by role, at the prices of the recipe that first asked; also of shards that were lost.",
    ["role"],
)


def count(spec: SampleSpec, completion: Completion) -> None:
    """One finished completion."""
    if spec.engine.kind == "openai":
        SPENT.labels(spec.role).inc(spec.engine.cost_usd(completion.prompt_tokens, completion.n_tokens))


def notes(spec: SampleSpec, run_id: str, tally: Tally) -> dict[str, Any]:
    """For the receipt of a shard: `spent`, by the run on whose behalf it was made. A run that reuses the shard pays nothing."""
    if spec.engine.kind != "openai":
        return {}
    return {"spent": {run_id: {"prompt_tokens": tally.prompt_tokens, "tokens": tally.tokens, "shards": 1}}}
