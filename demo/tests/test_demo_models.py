"""The models that are shipped: they load, they answer as their logs say, and they belong to their recipes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from overproof.demo.card import model_card
from overproof.demo.measure import measure
from overproof.demo.pretrain import MODELS, VAL_SEED
from overproof.demo.problems import generate, split_of
from overproof.demo.recipe import RECIPES, Role
from overproof.demo.tokenizer import INSTRUCTION, train_tokenizer

ROLES: tuple[Role, ...] = tuple(RECIPES)
FILES = {
    "README.md",
    "chat_template.jinja",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "training_log.json",
}


def read(role: Role, name: str) -> Any:
    return json.loads((MODELS / role / name).read_text())


@pytest.fixture(scope="module", params=ROLES)
def role(request: pytest.FixtureRequest) -> Role:
    return request.param  # type: ignore[no-any-return]


def test_nothing_but_the_final_model_is_shipped(role: Role) -> None:
    assert {path.name for path in (MODELS / role).iterdir()} == FILES


def test_all_models_together_are_small() -> None:
    assert sum(path.stat().st_size for path in Path(MODELS).rglob("*") if path.is_file()) < 40_000_000


def test_the_architecture_keeps_the_tokenizer(role: Role) -> None:
    config = read(role, "config.json")
    assert config["model_type"] == "llama"
    assert config["head_dim"] in (32, 64)
    assert config["hidden_size"] % 64 == 0
    assert config["num_key_value_heads"] >= 2
    assert read(role, "generation_config.json")["eos_token_id"] == config["eos_token_id"]


def test_the_tokenizer_reloads_with_the_ids_of_a_fresh_one(role: Role) -> None:
    texts = [f"{p.problem} {p.solution}" for p in generate("val", 200, seed=1)]
    assert AutoTokenizer.from_pretrained(MODELS / role)(texts)["input_ids"] == train_tokenizer()(texts)["input_ids"]


def test_weights_are_float32_and_finite(role: Role) -> None:
    with safe_open(MODELS / role / "model.safetensors", framework="pt") as weights:
        tensors = [weights.get_tensor(name) for name in weights.keys()]  # noqa: SIM118 - not a mapping
    assert {tensor.dtype for tensor in tensors} == {torch.float32}
    assert all(bool(torch.isfinite(tensor).all()) for tensor in tensors)


def test_the_log_is_the_recipe_s(role: Role) -> None:
    log, recipe = read(role, "training_log.json"), RECIPES[role]
    assert log["recipe"] == json.loads(json.dumps(asdict(recipe)))
    assert log["seeds"]["weights"] == log["seeds"]["solutions"] == recipe.seed
    assert log["seeds"]["drills"] == recipe.seed + 1
    assert log["splits"] == {"trained_on": "train", "measured_on": "val"}
    assert log["measurements"][-1]["step"] == recipe.steps


def test_the_card_is_made_from_the_log(role: Role) -> None:
    assert (MODELS / role / "README.md").read_text() == model_card(read(role, "training_log.json"), INSTRUCTION)


def test_answers_agree_with_the_log(role: Role) -> None:
    final = read(role, "training_log.json")["measurements"][-1]
    problems = list(generate("val", 105, VAL_SEED))
    assert all(split_of(problem.group) == "val" for problem in problems)
    model, tokenizer = AutoModelForCausalLM.from_pretrained(MODELS / role), AutoTokenizer.from_pretrained(MODELS / role)
    measured = measure(model, tokenizer, problems)
    assert measured.accuracy == pytest.approx(final["accuracy"], abs=0.13)  # over two standard errors of 105 answers
    assert measured.mean_tokens == pytest.approx(final["mean_tokens"], rel=0.2)


def test_the_teacher_is_better_and_shorter_than_the_student() -> None:
    teacher, student = (read(role, "training_log.json")["measurements"][-1] for role in ("teacher", "student"))
    assert teacher["interval"][0] > student["interval"][1] + 0.2
    assert teacher["mean_tokens"] < 0.6 * student["mean_tokens"]
