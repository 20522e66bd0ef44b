"""Chat turns → token ids by the model's own template, the same for every engine and for the check before sampling."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from overproof.inference.ports import Completion, Request
from overproof.shared import checkpoints
from overproof.shared.errors import ModelError
from overproof.shared.topology import FinishReason

MAX_REASON_CHARS = 300
"""A library's message may quote the whole prompt."""


class PromptError(Exception):
    """This prompt cannot be answered; the others may well be."""

    def __init__(self, reason: str, prompt_tokens: int = 0) -> None:
        super().__init__(reason)
        self.prompt_tokens = prompt_tokens


class Chat:
    """A checkpoint's tokenizer, template, context size and end-of-sequence tokens; needs no weights."""

    def __init__(self, folder: Path, max_model_len: int | None = None) -> None:
        """Raises ModelError when the folder lacks something, the tokenizer does not load, or there is no end of sequence."""
        from transformers import AutoTokenizer

        checkpoint = checkpoints.inspect(folder)
        try:
            self.tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"The tokenizer of {folder.name} does not load: {first_line(error)}", "Restore its files."
            ) from None
        self.tokenizer.chat_template = checkpoints.chat_template(folder)
        self.context = _context(folder, checkpoint.context, max_model_len)
        self.eos = _eos(folder, self.tokenizer)
        if not self.eos:
            raise ModelError(
                f"{folder.name} names no end-of-sequence token.", "Set eos_token_id in its generation_config.json."
            )
        vocabulary = self.tokenizer.get_vocab()
        self.think_end: int | None = vocabulary.get("</think>")
        self.think_begin: int | None = vocabulary.get("<think>")

    def encode(self, turns: Sequence[Mapping[str, str]]) -> list[int]:
        """Token ids up to the point where the model answers. Raises PromptError."""
        try:
            text = self.tokenizer.apply_chat_template(list(turns), tokenize=False, add_generation_prompt=True)
        except (
            Exception
        ) as error:  # jinja2's own errors and whatever a template raises: all of them are about this prompt
            raise PromptError(f"The chat template failed: {first_line(error)}") from error
        ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def prompt(self, turns: Sequence[Mapping[str, str]]) -> list[int]:
        """As `encode`; a prompt that leaves no room for an answer is a PromptError too."""
        ids = self.encode(turns)
        room = self.room(len(ids))
        if room is not None and room < 1:
            raise PromptError(f"The prompt has {len(ids)} tokens and the model's context is {self.context}.", len(ids))
        return ids

    def decode(self, ids: list[int]) -> str:
        """Text without special tokens."""
        return str(self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False))

    def text(self, tokens: list[int], stop: Sequence[str] = ()) -> str:
        """Of a whole completion: without its end-of-sequence token, and up to the first stop string."""
        text = self.decode(tokens[:-1] if tokens and tokens[-1] in self.eos else tokens)
        return min((text.partition(one)[0] for one in stop), key=len, default=text)

    def room(self, prompt_tokens: int) -> int | None:
        """Tokens that fit after a prompt; None: no limit is known."""
        return None if self.context is None else self.context - prompt_tokens

    def think_tokens(self, ids: Sequence[int], prompt: Sequence[int] = ()) -> int:
        """How many of the generated tokens are reasoning: up to and with the last `</think>`; all when it never ends.

        A template may open the reasoning at the end of the prompt.
        """
        if self.think_end is None:
            return 0
        if self.think_end in ids:
            return len(ids) - list(reversed(ids)).index(self.think_end)
        begun = self.think_begin is not None and (self.think_begin in ids or self.think_begin in prompt[-4:])
        return len(ids) if begun else 0


def refused(request: Request, error: PromptError) -> list[Completion]:
    """The rows of a prompt that cannot be answered, with the reason as text."""
    return [
        Completion(request.number, draw, str(error), 0, error.prompt_tokens, FinishReason.ERROR)
        for draw in range(len(request.seeds))
    ]


def _context(folder: Path, own: int | None, asked: int | None) -> int | None:
    if asked and own and asked > own:
        raise ModelError(
            f"engine.max_model_len {asked} is more than the {own} positions of {folder.name}.", f"Give {own} at most."
        )
    return asked or own


def _eos(folder: Path, tokenizer: Any) -> frozenset[int]:
    """All ids that end a completion: the tokenizer's own and those of the generation config, as vLLM takes them."""
    found = set() if tokenizer.eos_token_id is None else {int(tokenizer.eos_token_id)}
    for name in ("generation_config.json", "config.json"):
        if (folder / name).is_file():
            value = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token_id")
            if value is not None:
                return frozenset(found | set(value if isinstance(value, list) else [value]))
    return frozenset(found)


def first_line(error: BaseException) -> str:
    """What a library says, in one line."""
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:MAX_REASON_CHARS]
