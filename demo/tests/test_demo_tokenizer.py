"""The tokenizer: the same ids after a reload, a template whose mask covers what must be learnt."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer, LlamaConfig, PreTrainedTokenizerFast

from overproof.demo.problems import Style, generate, solution_in_style
from overproof.demo.tokenizer import (
    ASSISTANT,
    END,
    INSTRUCTION,
    PAD,
    VOCABULARY_SIZE,
    chat_prompt,
    save_tokenizer,
    train_tokenizer,
)

TEXTS = [f"{p.problem}\n{solution_in_style(p, style)}" for p in generate("val", 100, seed=0) for style in Style]
ODD_TEXTS = ["naïve π ≤ 3,000\t\n\n x", "", "  two  spaces ", "12345 67", "\\frac12 \\\\ \\%"]


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return train_tokenizer()


@pytest.fixture(scope="module")
def reloaded(tokenizer: PreTrainedTokenizerFast, tmp_path_factory: pytest.TempPathFactory) -> PreTrainedTokenizerFast:
    folder: Path = tmp_path_factory.mktemp("tokenizer")
    LlamaConfig().save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return AutoTokenizer.from_pretrained(folder)


def test_a_reload_gives_identical_ids(tokenizer: PreTrainedTokenizerFast, reloaded: PreTrainedTokenizerFast) -> None:
    assert reloaded(TEXTS + ODD_TEXTS)["input_ids"] == tokenizer(TEXTS + ODD_TEXTS)["input_ids"]
    assert reloaded.chat_template == tokenizer.chat_template
    assert (reloaded.eos_token, reloaded.pad_token, reloaded.model_max_length) == (END, PAD, 1024)


def test_padding_of_a_call_is_not_saved(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    tokenizer(["a", "a long text"], padding=True, padding_side="left")
    save_tokenizer(tokenizer, tmp_path)
    assert '"padding": null' in (tmp_path / "tokenizer.json").read_text()


@pytest.mark.parametrize("text", TEXTS[:30] + ODD_TEXTS)
def test_decoding_gives_the_text_back(text: str, tokenizer: PreTrainedTokenizerFast) -> None:
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_a_number_below_100_is_one_token(tokenizer: PreTrainedTokenizerFast) -> None:
    assert all(len(tokenizer(f"{space}{n}")["input_ids"]) == 1 for n in range(100) for space in ("", " "))


def test_the_vocabulary_is_full(tokenizer: PreTrainedTokenizerFast) -> None:
    assert len(tokenizer) == VOCABULARY_SIZE


def test_training_again_gives_the_same_tokenizer(tokenizer: PreTrainedTokenizerFast) -> None:
    assert train_tokenizer().get_vocab() == tokenizer.get_vocab()


@pytest.mark.parametrize("system", [None, ASSISTANT, INSTRUCTION])
def test_the_mask_covers_the_answer_and_its_end(system: str | None, tokenizer: PreTrainedTokenizerFast) -> None:
    messages = [
        {"role": "user", "content": "What is $2 + 2$?"},
        {"role": "assistant", "content": r"$2 + 2 = 4$. Answer: $\boxed{4}$."},
    ]
    if system:
        messages.insert(0, {"role": "system", "content": system})
    encoded = tokenizer.apply_chat_template(messages, return_dict=True, return_assistant_tokens_mask=True)
    learnt = [i for i, masked in zip(encoded["input_ids"], encoded["assistant_masks"], strict=True) if masked]
    assert tokenizer.decode(learnt) == messages[-1]["content"] + END


@pytest.mark.parametrize("system", [None, INSTRUCTION])
def test_training_prompts_are_the_template_s(system: str | None, tokenizer: PreTrainedTokenizerFast) -> None:
    pairs = [*([("system", system)] if system else []), ("user", "What is $2 + 2$?")]
    messages = [{"role": role, "content": content} for role, content in pairs]
    assert chat_prompt(pairs) == tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
