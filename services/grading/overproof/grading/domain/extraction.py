"""The final answer of a whole solution: where it is found, and by which rule.

Only text after the last `</think>` counts, nothing of a thought that never ends, no line that is quoted with `>`, no problem
that is repeated before its solution, and nothing of a new problem or turn that follows the answer.
The rules, the first that finds anything wins, and within a rule the last place in the text:

    boxed         the last complete `\\boxed{}` or `\\fbox{}`, also `\\boxed 5`; boxes that only commas, `and`, `or`, names or
                  math delimiters part are one list
    answer_tag    `<answer>5</answer>`
    hashes        `#### 5`
    final_answer  `final answer is 5`, `final answer: 5`
    answer        `the answer is 5`, `Answer: B`, `option B is correct`, `答案是5`, `故选B`
    line          a last line that is nothing but a letter or an expression
    bold          `**5**`, when what is in bold looks like an answer
    math          the last `$...$`, `\\(...\\)`, `$$...$$` or `\\[...\\]`
    number        the last number

Everything is one pass over at most MAX_SOLUTION_CHARS with patterns that cannot backtrack.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from overproof.grading.domain.boxes import Place, boxed
from overproof.grading.domain.statements import (
    ANSWER,
    FINAL,
    HASHES,
    TAG,
    after,
    bold,
    chosen,
    group_of,
    last_line,
    math,
    number,
)

MAX_SOLUTION_CHARS = 200_000
"""From the end, where the answer stands: some 50,000 tokens, more than any model here may generate."""


class Extraction(NamedTuple):
    """`answer` as written, `method` the rule's name, `start` and `end` its place in the text that was given."""

    answer: str
    method: str
    start: int
    end: int


_THOUGHT_ENDS = ("</think>", "<|end_of_thought|>", "</thinking>", "</reasoning>", "◁/think▷")
_THOUGHT_BEGINS = re.compile(r"<think>|<\|begin_of_thought\|>|<thinking>|◁think▷")
_QUOTE_LINE = re.compile(r"^[ \t]{0,3}>[^\n]*", re.MULTILINE)
_FIRST_ANSWER = re.compile(r"\\(?:boxed|fbox)\s*\{|^####[ \t]|\banswer(?: is|:)", re.MULTILINE | re.IGNORECASE)
_NEXT_TURN = re.compile(
    r"<\|(?:im_start|im_end|endoftext|eot_id)\|>|</s>|\n[ \t#*]{0,6}(?:Human|User|Question|Problem|Instruction)\b[ \t]?\d{0,3}[*]{0,2}[:：]"
)
_RESTATED = re.compile(r"\s{0,9}[#* \t]{0,6}(?:Problem|Question)\b[^\n:]{0,20}[:：]", re.IGNORECASE)
_SOLUTION = re.compile(r"\n[#* \t]{0,6}(?:Solution|Answer|Response)\b", re.IGNORECASE)


def _own(text: str) -> str:
    """The solution without the problem it repeats first and without the turns of a conversation it makes up after its answer.

    Places stay where they are: what goes at the front becomes blanks.
    """
    if (head := _RESTATED.match(text)) and (begun := _SOLUTION.search(text, head.end())):
        text = " " * begun.start() + text[begun.start() :]
    first = _FIRST_ANSWER.search(text)
    end = _NEXT_TURN.search(text, first.end()) if first else None
    return text[: end.start()] if end else text


def extract(text: str) -> Extraction | None:
    """The final answer of a solution, None when no rule finds one."""
    offset = max(max(_end_of(text, mark) for mark in _THOUGHT_ENDS), len(text) - MAX_SOLUTION_CHARS)
    body = text[offset:]
    if thought := _THOUGHT_BEGINS.search(body):
        body = body[: thought.start()]
    if ">" in body:
        body = _QUOTE_LINE.sub(lambda match: " " * len(match[0]), body)
    body = _own(body)
    for method, rule in _RULES:
        place = rule(body)
        if place is not None and place.answer.strip():
            return Extraction(place.answer.strip(), method, place.start + offset, place.end + offset)
    return None


def _end_of(text: str, mark: str) -> int:
    """The place behind the last mark, 0 without one."""
    at = text.rfind(mark)
    return at + len(mark) if at >= 0 else 0


_RULES: tuple[tuple[str, Callable[[str], Place | None]], ...] = (
    ("boxed", boxed),
    ("answer_tag", group_of(TAG)),
    ("hashes", group_of(HASHES)),
    ("final_answer", after(FINAL)),
    ("answer", chosen),
    ("answer", after(ANSWER)),
    ("line", last_line),
    ("bold", bold),
    ("math", math),
    ("number", number),
)
