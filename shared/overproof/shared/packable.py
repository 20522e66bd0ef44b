"""Students whose rows may be laid end to end in training: decision 0016. The list is held to the code by training's tests."""

from __future__ import annotations

from overproof.shared.errors import RecipeError

KEEPS_ROWS_APART = frozenset({
    "llama", "mistral", "ministral3", "qwen2", "qwen3", "smollm3", "olmo", "olmo2", "olmo3", "phi3", "gemma", "gemma3_text", "starcoder2",
    "glm", "glm4", "granite", "exaone4", "arcee", "apertus", "ernie4_5", "cohere2", "mixtral", "qwen2_moe", "qwen3_moe", "olmoe",
})  # fmt: skip
"""Model types that are nothing but attention and layers of single tokens, and tell the attention where rows end. Others read over the ends
(linear attention, convolutions), or keep the ends to themselves (stablelm, nemotron), or want what our attention does not do (soft caps, sinks)."""


def check_packing(model_type: str) -> None:
    """Raises RecipeError for a student in whose architecture packed rows would see each other."""
    if model_type not in KEEPS_ROWS_APART:
        raise RecipeError(
            f"training.micro_batch_tokens packs rows, and in a student of type {model_type} they are not known to stay apart.",
            "Leave it out: rows are then padded, training.micro_batch_size of them at a time.",
        )
