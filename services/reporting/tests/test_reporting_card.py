"""A model card gets its results, wherever it had room for them."""

from __future__ import annotations

import json

from overproof.reporting.domain.card import model_index, with_results

ROW = {"accuracy": 0.65, "accuracy_low": 0.614, "accuracy_high": 0.701, "tokens_mean": 28.991, "n": 400}
CARD = "---\nlibrary_name: transformers\n---\n\n# Student\n\n## Results\n\nNone yet.\nNone.\n\n## Licences\n\n- MIT\n"


def test_section_is_replaced_and_the_rest_stands() -> None:
    card = with_results(CARD, "| a | \\1 |", "model-index: []\n")
    assert card == CARD.replace("None yet.\nNone.", "| a | \\1 |").replace(
        "\n---\n\n# S", "\nmodel-index: []\n---\n\n# S"
    )


def test_card_without_room_gets_it_at_the_end() -> None:
    assert with_results("# Student\n", "good", "model-index: []\n") == "# Student\n\n## Results\n\ngood\n\n"


def test_results_in_last_place_are_replaced_to_the_end() -> None:
    assert with_results("# S\n\n## Results\n\nold\n", "new", "") == "# S\n\n## Results\n\nnew\n\n"


def test_index_holds_value_interval_and_n() -> None:
    (entry,) = json.loads(model_index("round 1", "demo-math", ROW).removeprefix("model-index: "))
    accuracy = entry["results"][0]["metrics"][0]
    assert (accuracy["type"], accuracy["value"]) == ("accuracy", 0.65)
    assert accuracy["name"] == "accuracy, n = 400, 95 % interval 0.614 to 0.701"
