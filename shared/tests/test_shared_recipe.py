"""A recipe is complete, strict, and says what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from overproof.shared.recipe import DataSource, PromptOptions, Recipe

ROOT = Path(__file__).parents[2]
LOOP: dict[str, Any] = {
    "name": "loop",
    "data": {"train": {"file": "a.jsonl"}, "test": {"file": "b.jsonl"}},
    "models": {"teacher": "big@main", "student": {"name": "small"}},
}


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_recipes_are_valid(path: Path) -> None:
    assert Recipe.model_validate(yaml.safe_load(path.read_text())).name


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"nmae": "x"}, "nmae"),
        ({"name": "No spaces"}, "name"),
        ({"data": {"train": {"file": "a.jsonl"}}}, "data.test"),
        ({"models": {"teacher": "big"}}, "models.student"),
        ({"data": {"train": {"file": "a", "upload": "ds_" + "0" * 32}, "test": {"file": "b"}}}, "exactly one"),
        ({"data": {"train": {"generator": "demo-math"}, "test": {"file": "b"}}}, "needs n"),
        ({"sampling": {"temperature": 0}}, "raise the temperature"),
        ({"training": {"global_batch_size": 10, "processes": 4}}, "not a multiple"),
        ({"selection": []}, "at least one policy"),
        ({"selection": [{"policy": "all"}, {"policy": "all"}]}, "each once"),
        ({"selection": [{"policy": "longest"}]}, "below_median_global"),
        ({"prompt": {"template": "Solve it."}}, "{problem}"),
        ({"sampling": {"max_tokens": 0}}, "greater than or equal to 1"),
        ({"goal": "select", "models": {}}, "given.completions, or models.teacher"),
        ({"rounds": 0}, "greater than or equal to 1"),
        ({"goal": "dance"}, "distil"),
        ({"training": {"choose_by": "accuracy"}}, "needs probe"),
        ({"training": {"max_grad_norm": float("inf")}}, "training.max_grad_norm"),
        ({"training": {"neftune_alpha": float("inf")}}, "training.neftune_alpha"),
        ({"training": {"lora": {"alpha": float("inf")}}}, "training.lora.alpha"),
        ({"training": {"deepspeed": {"zero_optimization": {"offload_optimizer": "cpu"}}}}, "set offload"),
        (
            {"training": {"choose_by": "accuracy", "probe": {}}, "selection": [{"val_share": 0}]},
            "set selection.val_share",
        ),
    ],
)
def test_bad_recipe_names_the_field(change: dict[str, Any], told: str) -> None:
    with pytest.raises(ValidationError, match=None) as caught:
        Recipe.model_validate({**LOOP, **change})
    assert told in str(caught.value)


def test_model_shorthand_splits_the_revision() -> None:
    recipe = Recipe.model_validate(LOOP)
    assert recipe.models.teacher is not None
    assert (recipe.models.teacher.name, recipe.models.teacher.revision) == ("big", "main")


def test_template_replaces_and_interprets_nothing_else() -> None:
    prompt = PromptOptions(template="{problem} in {braces} %s")
    assert prompt.render("{x}^2 {problem}") == "{x}^2 {problem} in {braces} %s"


def test_messages_hold_system_and_examples_before_the_problem() -> None:
    prompt = PromptOptions.model_validate(
        {
            "system": "Be brief.",
            "template": "Q: {problem}",
            "few_shot": [{"problem": "1+1", "solution": "2"}],
        }
    )
    assert [turn["role"] for turn in prompt.messages("2+2")] == ["system", "user", "assistant", "user"]
    assert prompt.messages("2+2")[-1]["content"] == "Q: 2+2"


def test_generator_source_is_named_after_it() -> None:
    assert DataSource(generator="demo-math", n=5, split="train").name == "demo-math"
