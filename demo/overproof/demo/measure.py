"""Greedy answers of a model to demo problems, and how many are right by the text in the box."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerFast

from overproof.demo.problems import DemoProblem
from overproof.demo.tokenizer import INSTRUCTION

MAX_NEW_TOKENS = 320  # past every verbose solution: what is longer repeats itself
ROWS_PER_BATCH = 175
NORMAL_95 = 1.959964  # the normal quantile of a two-sided 95 % interval


class Measurement(NamedTuple):
    """What greedy decoding of a set of problems gave."""

    n: int
    n_correct: int
    mean_tokens: float

    @property
    def accuracy(self) -> float:
        """Share of problems whose boxed text equals the gold answer."""
        return self.n_correct / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the accuracy (E. B. Wilson, 1927)."""
        z, p, n = NORMAL_95, self.accuracy, self.n
        centre, spread = p + z * z / (2 * n), z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
        return max(0.0, (centre - spread) / (1 + z * z / n)), (centre + spread) / (1 + z * z / n)


class Answer(NamedTuple):
    """One completion without its end token; `n_tokens` counts the end token."""

    text: str
    n_tokens: int


def measure(model: Any, tokenizer: PreTrainedTokenizerFast, problems: Sequence[DemoProblem]) -> Measurement:
    """Greedy accuracy and length of `model` on `problems`, asked with the instruction."""
    answers = [
        answer
        for start in range(0, len(problems), ROWS_PER_BATCH)
        for answer in greedy_answers(model, tokenizer, [p.problem for p in problems[start : start + ROWS_PER_BATCH]])
    ]
    right = sum(boxed(answer.text) == problem.answer for answer, problem in zip(answers, problems, strict=True))
    return Measurement(len(problems), right, sum(answer.n_tokens for answer in answers) / len(answers))


def greedy_answers(model: Any, tokenizer: PreTrainedTokenizerFast, statements: Sequence[str]) -> list[Answer]:
    """One greedy completion per statement, in one padded batch."""
    messages = [[{"role": "user", "content": f"{statement}\n\n{INSTRUCTION}"}] for statement in statements]
    prompts = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    encoded = tokenizer(prompts, return_tensors="pt", padding=True, padding_side="left").to(model.device)
    model.eval()
    with torch.no_grad():
        output = model.generate(
            input_ids=encoded["input_ids"],
            attention_mask=encoded["attention_mask"],
            do_sample=False,
            max_new_tokens=MAX_NEW_TOKENS,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    rows = output[:, encoded["input_ids"].shape[1] :].tolist()
    return [_answer(tokenizer, row) for row in rows]


def boxed(text: str) -> str | None:
    """The content of the last box with balanced braces; None without one."""
    start = text.rfind(r"\boxed{")
    if start < 0:
        return None
    begin, depth = start + len(r"\boxed{"), 1
    for position in range(begin, len(text)):
        depth += {"{": 1, "}": -1}.get(text[position], 0)
        if depth == 0:
            return text[begin:position]
    return None


def _answer(tokenizer: PreTrainedTokenizerFast, ids: list[int]) -> Answer:
    end = tokenizer.eos_token_id
    kept = ids[: ids.index(end)] if end in ids else ids
    return Answer(tokenizer.decode(kept, skip_special_tokens=True), len(kept) + (end in ids))
