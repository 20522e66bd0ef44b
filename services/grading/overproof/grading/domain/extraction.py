"""The final answer of a whole solution: where it is found, and by which rule.

Only text after the last `</think>` counts, nothing of a thought that never ends, no line that is quoted with `>`, no problem
that is repeated before its solution, and nothing of a new problem or turn that follows the answer.
The rules, the first that finds anything wins, and within a rule the last place in the text:

    boxed         the last complete `\\boxed{}` or `\\fbox{}`, also `\\boxed 5`; boxes that only commas, `and`, `or` or math
                  delimiters part are one list
    answer_tag    `<answer>5</answer>`
    hashes        `#### 5`
    final_answer  `final answer is 5`, `final answer: 5`
    answer        `the answer is 5`, `Answer: B`, `答案是5`
    bold          `**5**`, when what is in bold looks like an answer
    math          the last `$...$`, `\\(...\\)`, `$$...$$` or `\\[...\\]`
    number        the last number

Everything is one pass over at most MAX_SOLUTION_CHARS with patterns that cannot backtrack.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

MAX_SOLUTION_CHARS = 200_000
"""From the end, where the answer stands: some 50,000 tokens, more than any model here may generate."""

MAX_CANDIDATE_CHARS = 1_000
"""What follows `the answer is` is read no farther: an answer that long is prose."""

MAX_MATH_CHARS = 4_000
"""The last formula is looked for in that many characters: unclosed delimiters cost 2,000 steps each."""

MAX_ADJACENT = 20
"""Boxes that may make up one list."""


class Extraction(NamedTuple):
    """`answer` as written, `method` the rule's name, `start` and `end` its place in the text that was given."""

    answer: str
    method: str
    start: int
    end: int


class _Place(NamedTuple):
    answer: str
    start: int
    end: int


_BOX = re.compile(r"\\(?:boxed|fbox|framebox)(?![A-Za-z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BARE_BOX = re.compile(r"[^\s{}$\\,;.]{1,40}")
_BETWEEN_BOXES = re.compile(r"(?:\s|\\[,;:! ]|\\\(|\\\)|\\quad|\\text\{\s*(?:and|or)\s*\}|[$,;&]|and\b|or\b)*")
_JOINED_BY = re.compile(r"[,;&]|and|or")
_TAG = re.compile(r"<answer>([^<]{1,1000})</answer>", re.IGNORECASE)
_HASHES = re.compile(r"^\s{0,8}####[ \t]*([^\n]+)", re.MULTILINE)
_FINAL = re.compile(
    r"final\s{1,3}(?:numerical\s{1,3})?(?:answer|result)\s{0,3}(?:\*{1,2}\s{0,3})?(?:is\b|:|=|：)", re.IGNORECASE
)
_ANSWER = re.compile(
    r"(?:\b(?:answers?|option|choice)\s{0,3}(?:\*{1,2}\s{0,3})?(?:is\b|are\b|:|=|：)|(?:答案|答)\s{0,3}(?:是|为|為|：|:))",
    re.IGNORECASE,
)
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")
_MATH = re.compile(
    r"\$\$([^$]{1,2000})\$\$|(?<!\\)\$([^$\n]{1,2000})\$|\\\[((?:[^\\]|\\(?!\])){1,2000})\\\]|\\\(((?:[^\\]|\\(?!\))){1,2000})\\\)"
)
_NUMBER = re.compile(
    r"(?<![\w.])[-−]?\s?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:\s?/\s?\d+(?![\d.]))?(?:\s?%)?|(?<![\w.])[-−]?\.\d+",
    re.ASCII,
)
_QUOTE_LINE = re.compile(r"^[ \t]{0,3}>[^\n]*", re.MULTILINE)
_SENTENCE_END = re.compile(r"\n|(?<=[^.])[.。](?=\s|$|\*)|[!?](?=\s[A-Z]|$)")
_LEAD = re.compile(r"^[\s:：=*]+(?:(?:simply|just|therefore|thus|given by|equal to|option|choice|that|：)\s+)?")


_SIGN = re.compile(r"(?:^|[=$([:≈\n]|\\\(|\\\[)\s{0,3}[-−]\s{0,3}$")
_PLACEHOLDER = re.compile(
    r"(?:\\text\{)?\s*(?:(?:your |the |final )*answers?(?: here)?|\.\.\.|…|\\[lc]?dots|\?)\s*\}?", re.IGNORECASE
)
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
    offset = max(text.rfind("</think>") + len("</think>") if "</think>" in text else 0, len(text) - MAX_SOLUTION_CHARS)
    body = text[offset:].partition("<think>")[0]
    if ">" in body:
        body = _QUOTE_LINE.sub(lambda match: " " * len(match[0]), body)
    body = _own(body)
    for method, rule in _RULES:
        place = rule(body)
        if place is not None and place.answer.strip():
            return Extraction(place.answer.strip(), method, place.start + offset, place.end + offset)
    return None


def _boxed(text: str) -> _Place | None:
    if "box" not in text:
        return None
    boxes = _boxes(text)
    if not boxes:
        return None
    first = len(boxes) - 1
    while (
        first > 0
        and len(boxes) - first < MAX_ADJACENT
        and _are_adjacent(text[boxes[first - 1].end : boxes[first].start])
    ):
        first -= 1
    if first == len(boxes) - 1 and _SIGN.search(text[max(0, boxes[first].start - 12) : boxes[first].start]):
        return boxes[first]._replace(answer=_negative(boxes[first].answer.strip()))
    return _Place(", ".join(box.answer.strip() for box in boxes[first:]), boxes[first].start, boxes[-1].end)


def _negative(answer: str) -> str:
    """`-\\boxed{256}` is minus 256."""
    return f"-{answer}" if re.fullmatch(r"[\w.,]+|\\[dt]?frac\{[^{}]*\}\{[^{}]*\}", answer) else f"-({answer})"


def _are_adjacent(between: str) -> bool:
    return (
        len(between) <= 40 and _BETWEEN_BOXES.fullmatch(between) is not None and _JOINED_BY.search(between) is not None
    )


def _boxes(text: str) -> list[_Place]:
    """All complete boxes that are not inside another one and not empty, left to right; braces are matched once for all."""
    closing = _closing_braces(text)
    found: list[_Place] = []
    for match in _BOX.finditer(text):
        start = match.end()
        if found and match.start() < found[-1].end:
            continue
        if text[start : start + 1] == "{":
            end = closing.get(start)
            if end is not None and text[start + 1 : end].strip() and not _PLACEHOLDER.fullmatch(text, start + 1, end):
                found.append(_Place(text[start + 1 : end], match.start(), end + 1))
        elif bare := _BARE_BOX.match(text, start):
            found.append(_Place(bare[0], match.start(), bare.end()))
    return found


def _closing_braces(text: str) -> dict[int, int]:
    """Place of each opening brace → place of the brace that closes it; escaped braces do not count."""
    waiting: list[int] = []
    closing: dict[int, int] = {}
    for match in _BRACE.finditer(text):
        if match[0] == "{":
            waiting.append(match.start())
        elif match[0] == "}" and waiting:
            closing[waiting.pop()] = match.start()
    return closing


def _last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    found = None
    for match in pattern.finditer(text):
        found = match
    return found


def _group_of(pattern: re.Pattern[str]) -> Callable[[str], _Place | None]:
    def rule(text: str) -> _Place | None:
        match = _last(pattern, text)
        return None if match is None else _Place(match[1].strip(" *"), match.start(1), match.end(1))

    return rule


def _after(pattern: re.Pattern[str]) -> Callable[[str], _Place | None]:
    """What follows the last match: up to the end of its sentence, or the first math in it when it is a sentence."""

    def rule(text: str) -> _Place | None:
        match = _last(pattern, text)
        return None if match is None else _statement(text, match.end())

    return rule


def _statement(text: str, start: int) -> _Place | None:
    rest = text[start : start + MAX_CANDIDATE_CHARS]
    lead = _LEAD.match(rest)
    skipped = lead.end() if lead else 0
    rest = rest[skipped:]
    display = _MATH.match(rest)
    end = _SENTENCE_END.search(rest, display.end() if display else 0)
    candidate = rest[: end.start()] if end else rest
    place = _Place(candidate.strip(" *`"), start + skipped, start + skipped + len(candidate))
    return place if _looks_like_an_answer(candidate) else _inside(candidate, place)


def _inside(candidate: str, place: _Place) -> _Place | None:
    """The math or the number in a sentence that says the answer with more words."""
    for rule in (_math, _number):
        found = rule(candidate)
        if found is not None:
            return _Place(found.answer, place.start + found.start, place.start + found.end)
    return place if len(candidate.split()) <= 12 and candidate.strip() else None


def _looks_like_an_answer(candidate: str) -> bool:
    """Math, or at most four words: `$5$ apples`, `Answer: B`, `12 square meters`."""
    bare = _MATH.sub(" ", candidate)
    return bool(candidate.strip()) and len(bare.split()) <= 4


def _bold(text: str) -> _Place | None:
    found = None
    for match in _BOLD.finditer(text):
        inner = match[1].strip().rstrip(".")
        if (
            _NUMBER.search(inner)
            and len(inner.split()) <= 4
            and not inner.endswith(":")
            and not inner.lower().startswith("step")
        ):
            found = _Place(inner, match.start(1), match.end(1))
    return found


def _math(text: str) -> _Place | None:
    skipped = max(0, len(text) - MAX_MATH_CHARS)
    tail = text[skipped:]
    match = _last(_MATH, tail) if "$" in tail or "\\(" in tail or "\\[" in tail else None
    if match is None:
        return None
    group = next(index for index, value in enumerate(match.groups(), start=1) if value is not None)
    return _Place(match[group].strip(), match.start(group) + skipped, match.end(group) + skipped)


def _number(text: str) -> _Place | None:
    match = _last(_NUMBER, text)
    return None if match is None else _Place(match[0].strip(), match.start(), match.end())


_RULES: tuple[tuple[str, Callable[[str], _Place | None]], ...] = (
    ("boxed", _boxed),
    ("answer_tag", _group_of(_TAG)),
    ("hashes", _group_of(_HASHES)),
    ("final_answer", _after(_FINAL)),
    ("answer", _after(_ANSWER)),
    ("bold", _bold),
    ("math", _math),
    ("number", _number),
)
