"""The student's own chat template, rendered for training exactly as inference renders it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer

from overproof.shared import checkpoints
from overproof.shared.errors import ModelError
from overproof.training.adapters.foreign import blamed
from overproof.training.domain.preflight import Encoded

REASONING = re.compile("think|thought|reason", re.IGNORECASE)
"""What tags around a reasoning are called: <think>, [THINK], <|begin_of_thought|>."""


class Chat:
    """The tokenizer of a checkpoint, and its chat template. Raises ModelError where a file of either is broken, and where they do not
    suit the weights or the rows."""

    def __init__(self, path: Path, vocab_size: int | None) -> None:
        self._name = path.name
        with blamed(
            f"The tokenizer of {path.name} cannot be read", "Restore its tokenizer.json and tokenizer_config.json."
        ):
            self._tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
        self._stops = _stop_ids(path, self._tokenizer)
        highest = max([*self._tokenizer.get_vocab().values(), *self._stops])  # pad and end tokens among them
        if vocab_size and highest >= vocab_size:
            raise ModelError(
                f"{path.name} has tokens up to number {highest} but only {vocab_size} embedding rows.",
                "Take the tokenizer that belongs to the weights.",
            )
        self.end = self._end_of_turn()
        self._controls = self._control_tokens()

    @property
    def end_token(self) -> str:
        """The token that ends every completion, as text."""
        return str(self._tokenizer.convert_ids_to_tokens(self.end))

    def encode(self, rows: list[dict[str, Any]]) -> list[Encoded]:
        """Rows with `prompt`, `system` and `completion` → tokens. The completion is never changed by the template."""
        prompts = self._tokenizer(
            [self._prompt(_messages(row["system"], row["prompt"])) for row in rows], add_special_tokens=False
        )
        completions = self._tokenizer([row["completion"] for row in rows], add_special_tokens=False)
        return [
            Encoded(prompt, [*completion, self.end], self._control_in(completion))
            for prompt, completion in zip(prompts["input_ids"], completions["input_ids"], strict=True)
        ]

    def _control_in(self, completion: list[int]) -> str:
        found = next((token for token in completion if token in self._controls), None)
        return "" if found is None else str(self._tokenizer.convert_ids_to_tokens(found))

    def _control_tokens(self) -> set[int]:
        """Those that begin and end texts and turns: what the tokenizer calls special, and what generation stops at.

        Added tokens that are not special (`<think>` of Qwen 3, `<tool_call>`) are words of an answer; so are reasoning tags where a
        tokenizer calls them special ([THINK] of Magistral), and its token for what it cannot write, which no text spells.
        """
        added = self._tokenizer.added_tokens_decoder
        special = {*self._tokenizer.all_special_ids, *(number for number, token in added.items() if token.special)}
        words = {number for number in special if REASONING.search(str(self._tokenizer.convert_ids_to_tokens(number)))}
        return (special - words - {self._tokenizer.unk_token_id}) | self._stops | {self.end}

    def decode(self, ids: list[int]) -> str:
        """Text of tokens, special ones shown."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))

    def text(self, ids: list[int]) -> str:
        """Text of a solution, special tokens left out."""
        return str(self._tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    @property
    def stops(self) -> list[int]:
        """Tokens at which generation ends, the one that this student is taught first."""
        return [self.end, *sorted(self._stops - {self.end})]

    def _prompt(self, messages: list[dict[str, str]]) -> str:
        return self._rendered(messages, add_generation_prompt=True)

    def _rendered(self, messages: list[dict[str, str]], **how: bool) -> str:
        roles = ", ".join(turn["role"] for turn in messages)
        without = "leave prompt.system out, " if messages[0]["role"] == "system" else ""
        remedy = f"Mend its chat_template.jinja, {without}or take a student whose template can."
        with blamed(f"The chat template of {self._name} cannot render the turns {roles}", remedy):
            return str(self._tokenizer.apply_chat_template(messages, tokenize=False, **how))

    def _end_of_turn(self) -> int:
        """The token that the template puts behind an answer, when inference stops at it; else the tokenizer's EOS."""
        messages = _messages(None, "?")
        behind = self._rendered([*messages, {"role": "assistant", "content": "!"}]).rpartition("!")[2]
        ids = self._tokenizer(behind, add_special_tokens=False)["input_ids"]
        if ids and ids[0] in self._stops:
            return int(ids[0])
        if self._tokenizer.eos_token_id is None:
            raise ModelError(
                "The student's tokenizer has no end-of-sequence token.", "Set eos_token in its tokenizer_config.json."
            )
        return int(self._tokenizer.eos_token_id)


def _messages(system: str | None, prompt: str) -> list[dict[str, str]]:
    turns = [{"role": "system", "content": system}] if system is not None else []
    return [*turns, {"role": "user", "content": prompt}]


def _stop_ids(path: Path, tokenizer: Any) -> set[int]:
    """Tokens at which generation ends."""
    stops = checkpoints.generation_config(path).get("eos_token_id")
    named = stops if isinstance(stops, list) else [stops]
    with blamed(
        f"eos_token_id of {path.name}/generation_config.json is no token",
        "Set it to a number, or to a list of numbers.",
    ):
        return {int(stop) for stop in [*named, tokenizer.eos_token_id] if stop is not None}
