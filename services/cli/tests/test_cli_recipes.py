"""--set, reading, and keys."""

from __future__ import annotations

import pytest

from overproof.cli import recipes
from overproof.cli.errors import CliError

RECIPE = {"name": "demo", "training": {"epochs": 3}, "selection": [{"policy": "all"}, {"policy": "shortest"}]}

CASES = [
    ("training.epochs=2", ("training", "epochs"), 2),
    ("training.learning_rate=1e-4", ("training", "learning_rate"), "1e-4"),
    ("training.learning_rate=1.0e-4", ("training", "learning_rate"), 1e-4),
    ("data.train.n=40", ("data", "train", "n"), 40),
    ("selection.1.policy=below_median", ("selection", 1, "policy"), "below_median"),
    ("selection=[{policy: all}]", ("selection", 0, "policy"), "all"),
    ("sampling.enough=null", ("sampling", "enough"), None),
    ("prompt.template=a=b {problem}", ("prompt", "template"), "a=b {problem}"),
    ("name=", ("name",), None),
]


@pytest.mark.parametrize(("setting", "path", "value"), CASES, ids=[case[0] for case in CASES])
def test_set_puts_the_value_in_its_place(setting, path, value):
    changed = recipes.apply(RECIPE, [setting])
    for part in path:
        changed = changed[part]
    assert changed == value


def test_set_leaves_the_recipe_that_was_given_alone():
    recipes.apply(RECIPE, ["training.epochs=9", "selection.0.policy=shortest"])
    assert RECIPE["training"] == {"epochs": 3}
    assert RECIPE["selection"][0] == {"policy": "all"}


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("training.epochs", "not of the form"),
        ("=3", "not of the form"),
        ("training..epochs=3", "not of the form"),
        ("name.first=x", "nothing lies below a plain value"),
        ("selection.2.policy=all", "2 is no entry of a list of 2"),
        ("selection.first.policy=all", "first is no entry"),
        ("data.train={", "not YAML"),
    ],
)
def test_a_bad_set_is_named(setting, sentence):
    with pytest.raises(CliError, match=sentence) as caught:
        recipes.apply(RECIPE, [setting])
    assert caught.value.status == 2


def test_a_recipe_that_is_not_yaml_names_the_line(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("name: demo\ntraining: {epochs: [3\n")
    with pytest.raises(CliError, match=r"bad\.yaml is not YAML: line \d"):
        recipes.read(path)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "just words"])
def test_a_file_without_fields_is_no_recipe(tmp_path, text):
    path = tmp_path / "list.yaml"
    path.write_text(text)
    with pytest.raises(CliError, match="holds no recipe"):
        recipes.read(path)


def test_a_missing_recipe_is_named(tmp_path):
    with pytest.raises(CliError, match="There is no recipe"):
        recipes.read(tmp_path / "none.yaml")


def test_the_key_follows_the_recipe_not_the_order_of_its_fields():
    turned = dict(reversed(RECIPE.items()))
    assert recipes.key_of(turned) == recipes.key_of(RECIPE)
    assert recipes.key_of(recipes.apply(RECIPE, ["training.epochs=2"])) != recipes.key_of(RECIPE)


def test_a_part_leaves_out_what_was_not_given():
    recipe = recipes.part(
        "sample", None, sampling={"seed": None, "max_tokens": 5, "temperature": 0.0}, engine={"kind": None}
    )
    assert recipe == {"name": "sample", "goal": "sample", "sampling": {"max_tokens": 5, "temperature": 0.0}}
