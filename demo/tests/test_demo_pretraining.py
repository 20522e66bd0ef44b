"""Making a model: labels where they belong, an optimizer that descends, a folder that loads and repeats itself."""

import json
from dataclasses import replace
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from overproof.demo import pretrain
from overproof.demo.lessons import DRILL_TOKENS, IGNORED, drill_batches, prompt, solution_batches
from overproof.demo.measure import Measurement, boxed, greedy_answers
from overproof.demo.muon import Muon, orthogonal
from overproof.demo.problems import Style
from overproof.demo.recipe import RECIPES, Recipe
from overproof.demo.tokenizer import ASSISTANT, END, INSTRUCTION, train_tokenizer


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer()


@pytest.fixture(scope="module")
def tiny() -> Recipe:
    return replace(RECIPES["student"], layers=1, feed_forward=64, steps=4, drill_steps=2, rows=4)


def test_loss_is_on_the_solution_and_its_end_only(tokenizer: PreTrainedTokenizerFast) -> None:
    batch = next(solution_batches(tokenizer, {Style.TERSE: 1.0}, rows=4, seed=1))
    for ids, labels in zip(batch.ids, batch.labels, strict=True):
        taught = labels != IGNORED
        assert torch.equal(ids[taught], labels[taught])
        assert tokenizer.decode(ids[taught]).endswith(f"}}$.{END}")
        assert tokenizer.decode(ids[: int(taught.nonzero()[0])]).endswith("<|im_start|>assistant\n")


def test_a_drill_asks_for_the_right_side(tokenizer: PreTrainedTokenizerFast) -> None:
    batch = next(drill_batches(tokenizer, rows=4, seed=1))
    assert batch.ids.shape[1] <= DRILL_TOKENS
    for ids, labels in zip(batch.ids.tolist(), batch.labels.tolist(), strict=True):
        asked = tokenizer.decode([i for i, label in zip(ids, labels, strict=True) if label == IGNORED])
        learnt = tokenizer.decode([label for label in labels if label != IGNORED])
        assert asked.replace("<|endoftext|>", "").count("=") == learnt.count("$.")


def test_batches_repeat_with_their_seed(tokenizer: PreTrainedTokenizerFast) -> None:
    runs = [solution_batches(tokenizer, RECIPES["teacher"].styles, rows=4, seed=seed) for seed in (1, 1, 2)]
    one, same, other = ([batch.ids.tolist() for batch in islice(run, 20)] for run in runs)
    assert one == same
    assert one != other


def test_prompts_come_in_all_forms() -> None:
    rng = Random(0)
    prompts = [prompt("What?", rng) for _ in range(200)]
    assert {"system" in p.split("\n")[0] for p in prompts} == {True, False}
    assert {p.count(INSTRUCTION) for p in prompts} == {0, 1, 2}
    assert any(ASSISTANT in p for p in prompts)


def test_muon_draws_singular_values_together() -> None:
    torch.manual_seed(0)
    stack = torch.randn(3, 32, 64)
    values = torch.linalg.svdvals(orthogonal(stack))
    assert values.min() > 0.5
    assert values.max() < 1.5
    assert torch.allclose(orthogonal(stack.mT), orthogonal(stack).mT, atol=1e-5)


def test_muon_descends() -> None:
    torch.manual_seed(0)
    weight, target = torch.nn.Parameter(torch.zeros(8, 8)), torch.randn(8, 8)
    optimizer = Muon([weight], lr=0.05)
    losses = []
    for _ in range(100):
        optimizer.zero_grad()
        loss = (weight - target).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.2 * losses[0]


def test_the_teacher_s_rate_falls_and_the_student_s_stays() -> None:
    teacher, student = RECIPES["teacher"], RECIPES["student"]
    assert teacher.rate_factor(0) < teacher.rate_factor(200) == 1
    assert 0 < teacher.rate_factor(teacher.steps - 1) < 0.01
    assert student.rate_factor(student.steps - 1) == 1
    assert (teacher.drill_share(0), teacher.drill_share(teacher.steps)) == (1, 0)


def test_a_run_writes_a_folder_that_loads(
    tiny: Recipe, tokenizer: PreTrainedTokenizerFast, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pretrain, "VAL_PROBLEMS", 5)
    monkeypatch.setattr("overproof.demo.measure.MAX_NEW_TOKENS", 8)
    checkpoints = list(pretrain.train(tiny, tokenizer, every=2))
    pretrain.save(checkpoints, tiny, tokenizer, tmp_path)
    model, again = AutoModelForCausalLM.from_pretrained(tmp_path), AutoTokenizer.from_pretrained(tmp_path)
    log = json.loads((tmp_path / "training_log.json").read_text())
    assert [row["step"] for row in log["measurements"]] == [2, 4]
    assert log["parameters"] == sum(p.numel() for p in model.parameters())
    assert greedy_answers(model, again, ["What is $2 + 2$?"]) == greedy_answers(
        checkpoints[-1].model.cpu(), tokenizer, ["What is $2 + 2$?"]
    )
    assert "license: apache-2.0" in (tmp_path / "README.md").read_text()


def test_another_split_is_refused(tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("overproof.demo.lessons.split_of", lambda group: "test")
    with pytest.raises(AssertionError, match="is not in the train split"):
        next(solution_batches(tokenizer, {Style.TERSE: 1.0}, rows=4, seed=1))


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"So $\boxed{\frac{1}{2}}$.", r"\frac{1}{2}"),
        (r"$\boxed{1}$, no, $\boxed{2}$.", "2"),
        (r"$\boxed{(1, 2", None),
        ("no box", None),
    ],
)
def test_boxed(text: str, content: str | None) -> None:
    assert boxed(text) == content


def test_the_interval_is_wilson_s() -> None:
    low, high = Measurement(n=100, n_correct=50, mean_tokens=1.0).interval
    assert (round(low, 4), round(high, 4)) == (0.4038, 0.5962)
    assert Measurement(n=10, n_correct=0, mean_tokens=1.0).interval[0] == 0
