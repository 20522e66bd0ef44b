"""Boxes: `\\boxed{5}`, `\\fbox{5}`, `\\boxed 5`, and which of several are the answer.

Boxes that only commas, `and`, `or`, math delimiters and names (`x=`) part are one list; else the last one counts. A sign right
before a box belongs to it. Where the solution says that either will do, the last one is the answer.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from overproof.grading.domain.sentences import denies

MAX_ADJACENT = 20
"""Boxes that may make up one list."""

MAX_BETWEEN = 60
"""Characters between two boxes of one list; `$ \\text{ or } $y_1 = ` has twenty."""

MAX_REMARK = 160
"""Characters after the boxes in which `either is acceptable` is looked for."""


class Place(NamedTuple):
    """An answer as written and where it stands."""

    answer: str
    start: int
    end: int


_BOX = re.compile(r"\\{1,2}(?:boxed|fbox|framebox)(?![A-Za-z])\s*")
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BARE_BOX = re.compile(r"[^\s{}$\\,;.]{1,40}")
_NAME = r"(?:\\?[A-Za-z]{1,8}(?:_(?:\w|\{\w{1,4}\}))?(?:\(\w\))?\s?=\s?)"
_BETWEEN_BOXES = re.compile(
    rf"(?:\s|\\[,;:! ]|\\\(|\\\)|\\quad|\\qquad|\\text\{{\s*(?:and|or)\s*\}}|[$,;&]|\b(?:and|or)\b|(?<![A-Za-z]){_NAME})*+"
)
_JOINED_BY = re.compile(r"[,;&]|and|or")
_NAME_BEFORE = re.compile(rf"(?<![A-Za-z\\]){_NAME}$")
_NOT = re.compile(
    r"(?:\b(?:not(?: be)?|isn't|aren't|can't be|cannot be)\s{1,3}|(?:\\neq?|≠)\s{0,3})\$?$", re.IGNORECASE
)
_OPERATOR = re.compile(r"\s{0,3}(?:[-+*/]|\\cdot|\\times|\\div|\}\s?\{)\s{0,3}")
_WRAPPER = re.compile(r"\\(?:sqrt(?:\[\d\])?|[dt]?frac)\s?\{\s?$")
_POWER = re.compile(r"\s?\^(?:\{-?(?:\d+(?:/\d+)?|[a-z])\}|\d)|\s?\\(?:times|cdot)\s?10\^(?:\{-?\d+\}|\d)")
_SIGN = re.compile(r"(?:^|[=$([:≈\n]|\\\(|\\\[|\b(?:is|are|be|equals)\s)\s{0,3}[-−]\s{0,3}$")
_PLACEHOLDER = re.compile(
    r"(?:\\text\{)?\s*(?:(?:your |the |final )*answers?(?: here)?|\.\.\.|…|\\[lc]?dots|\?)\s*\}?", re.IGNORECASE
)
_EITHER = re.compile(r"\beither\b[^.]{0,60}\b(?:acceptable|accepted|correct|fine|will do|works)\b", re.IGNORECASE)
_ATOM = re.compile(r"[\w.,]+|\\[dt]?frac\{[^{}]*\}\{[^{}]*\}")


def boxed(text: str) -> Place | None:
    """The answer that a solution puts in a box, or in several that make up one list."""
    boxes = (
        [box for box in _boxes(text) if not _NOT.search(text, max(0, box.start - 12), box.start)]
        if "box" in text
        else []
    )
    if not boxes:
        return None
    if (expression := _expression(text, boxes)) is not None:
        return expression
    first = len(boxes) - 1
    while (
        first > 0
        and len(boxes) - first < MAX_ADJACENT
        and _are_adjacent(text[boxes[first - 1].end : boxes[first].start])
    ):
        first -= 1
    last = boxes[-1]
    if first == len(boxes) - 1 or _EITHER.search(text, last.end, last.end + MAX_REMARK):
        before = text[max(0, last.start - 12) : last.start]
        return last._replace(answer=_negative(last.answer.strip())) if _SIGN.search(before) else last
    return Place(", ".join(_named(text, box) for box in boxes[first:]), boxes[first].start, last.end)


def _expression(text: str, boxes: list[Place]) -> Place | None:
    """The expression that the last box is a part of, `\\boxed{4}-\\boxed{5}`, `\\sqrt{\\boxed{5}}`, `\\boxed{5}^2`; None where it stands alone."""
    first = len(boxes) - 1
    while first and _OPERATOR.fullmatch(text, boxes[first - 1].end, boxes[first].start):
        first -= 1
    start, end = boxes[first].start, boxes[-1].end
    wrapper = _WRAPPER.search(text, max(0, start - 12), start)
    if wrapper and text[end : end + 1] == "}":
        start, end = wrapper.start(), end + 1
    if power := _POWER.match(text, end):
        end = power.end()
    is_alone = (start, end) == (boxes[-1].start, boxes[-1].end)
    return None if is_alone else Place(text[start:end], start, end)


def introduced(answer: str) -> Place | None:
    """The box of a bare answer that only words stand before, `Thus, \\boxed{5}`; None where it is part of an expression."""
    place = boxed(answer)
    if place is None or not _INTRODUCTION.fullmatch(answer, 0, place.start) or denies(answer):
        return None
    return place if answer[place.end :].strip(" .$") == "" else None


_INTRODUCTION = re.compile(r"(?:[A-Za-z']{2,}[\s,:]+)+(?:\w\s?=\s?)?\$?|\w\s?=\s?\$?")


def _named(text: str, box: Place) -> str:
    """The box of a list with the name before it, `y=3` of `y=\\boxed{3}`."""
    name = _NAME_BEFORE.search(text, max(0, box.start - 20), box.start)
    answer = box.answer.strip()
    return f"{name[0]}{answer}" if name and "=" not in answer else answer


def _negative(answer: str) -> str:
    """`-\\boxed{256}` is minus 256."""
    return f"-{answer}" if _ATOM.fullmatch(answer) else f"-({answer})"


def _are_adjacent(between: str) -> bool:
    return (
        len(between) <= MAX_BETWEEN
        and _BETWEEN_BOXES.fullmatch(between) is not None
        and _JOINED_BY.search(between) is not None
    )


def _boxes(text: str) -> list[Place]:
    """All complete boxes that are not inside another one and not empty, left to right; braces are matched once for all."""
    closing = _closing_braces(text)
    found: list[Place] = []
    for match in _BOX.finditer(text):
        start = match.end()
        if found and match.start() < found[-1].end:
            continue
        if text[start : start + 1] == "{":
            end = closing.get(start)
            if end is not None and text[start + 1 : end].strip() and not _PLACEHOLDER.fullmatch(text, start + 1, end):
                found.append(Place(text[start + 1 : end], match.start(), end + 1))
        elif bare := _BARE_BOX.match(text, start):
            found.append(Place(bare[0], match.start(), bare.end()))
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
