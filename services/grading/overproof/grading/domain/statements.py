"""Answers outside of boxes: what follows `the answer is`, what is bold, the last formula, line or number.

Each pattern is one pass that cannot backtrack far; what an answer may be is bounded in characters.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from overproof.grading.domain.boxes import Place

MAX_CANDIDATE_CHARS = 1_000
"""What follows `the answer is` is read no farther: an answer that long is prose."""

MAX_MATH_CHARS = 4_000
"""The last formula is looked for in that many characters: unclosed delimiters cost 2,000 steps each."""

MAX_LINE_CHARS = 80
"""A last line that is nothing but an answer."""

MAX_WORDS = 4
"""`12 square meters` has three; longer ones are sentences with the answer in them."""

TAG = re.compile(
    r"<(?:final_)?answer>((?:[^<]|<(?!/?(?:final_)?answer>)){1,1000})</(?:final_)?answer>|\[ANSWER\]([^\[]{1,1000})\[/ANSWER\]",
    re.IGNORECASE,
)
HASHES = re.compile(r"^\s{0,8}####[ \t]*(?!\s|[^\n]{0,40}\banswer\b)([^\n]+)", re.MULTILINE | re.IGNORECASE)
_IS = r"(?:\s{0,3}(?:is|are|equals|would be|should be|must be|will be|turns out to be|comes out to(?: be)?)\b|\s{0,3}[:：=])"
_CLOSED = r"\s{0,3}(?:\*{1,2}|\}|_)?\s{0,3}"
FINAL = re.compile(
    rf"final\s{{1,3}}(?:numerical\s{{1,3}})?(?:answer|result|value)(?:{_CLOSED}{_IS}|{_CLOSED}\n)", re.IGNORECASE
)
ANSWER = re.compile(
    rf"(?:\b(?:answers?|option|choice|ans|result){_CLOSED}(?:{_IS}|[—–]\s)|\"answer\"\s{{0,3}}:"
    rf"|^[#* \t]{{0,8}}answer\s{{0,3}}[.*]{{0,3}}[ \t]{{0,3}}(?:\n|(?=\())"
    rf"|(?:答案|答|结果){_CLOSED}(?:应?[是为為]|：|:)|(?:故|因此|所以|应|，|,|\n|^)选择?\s{{0,3}}[:：]?)",
    re.IGNORECASE | re.MULTILINE,
)
_CHOSEN = re.compile(
    r"\b(?:option|choice|answer)\s{1,3}\(?([A-J])\)?\s{1,3}is\s{1,3}(?:the\s{1,3})?(?:correct|right|best)\b",
    re.IGNORECASE,
)
_BOLD = re.compile(r"\*\*([^*\n]{1,200})\*\*")
_MATH = re.compile(
    r"\$\$([^$]{1,2000})\$\$|(?<!\\)\$([^$\n]{1,2000})\$|\\\[((?:[^\\]|\\(?!\])){1,2000})\\\]|\\\(((?:[^\\]|\\(?!\))){1,2000})\\\)"
)
_TAKEN_BACK = re.compile(
    r"\s{1,3}\(?(?:is|are|was|were|has been)?\s{0,3}(?:wrong|incorrect|rejected|invalid|extraneous|impossible|not\b|fails?\b)"
)
_DENIED = re.compile(r"\b(?:not|not be|isn't|can't be|cannot be)\s{1,3}(?:\$|\\boxed\{){0,2}(?=[-\d(.])")
_PRICE = re.compile(r"\d[\d,.]*\s+[a-z]{2,}")
_NUMBER = re.compile(
    r"\(\s?[-−]?\d+(?:[./]\d+)?\s?(?:,\s?[-−]?\d+(?:[./]\d+)?\s?){1,5}\)"
    r"|(?<![\w.])[-−]?\s?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?:(?::\d+)+|\^\d+|\s?/\s?\d+(?!\d|\.\d))?(?:\s?%)?|(?<![\w.])[-−]?\.\d+",
    re.ASCII,
)
_SENTENCE_END = re.compile(
    r"\n|(?<=[^.])[.。](?=\s|$|\*|<)|[!?](?=\s[A-Z]|$)|</?(?:br|p|div|b|i|u|em|strong|span)\b"
    r"|,?\s(?:because|since|which|as we|as desired|as required|as claimed|so that|where we)\b",
    re.IGNORECASE,
)
_LEAD = re.compile(
    r"^[\s:：=*}—–\"_]+(?:<(?:b|i|u|em|strong)>)?"
    r"(?:(?:exactly|precisely|only|simply|just|therefore|thus|then|indeed|given by|equal to|option|choice|that|the value|：)\s+)?",
    re.IGNORECASE,
)
_YES = re.compile(r"(yes|no|true|false)\b[,.;:—–-]", re.IGNORECASE)
_LONE = re.compile(r"\(?[A-J]\)?\.?")
_EXPRESSION = re.compile(
    r"(?=.*\d)(?:sqrt|frac|dfrac|pi|sin|cos|tan|log|ln|cm|mm|km|kg|[A-Za-z](?![A-Za-z])|[^A-Za-z\n#`|])+"
)
_CHINESE = re.compile("[一-鿿]")


def last(pattern: re.Pattern[str], text: str) -> re.Match[str] | None:
    """The last match of a pattern."""
    found = None
    for match in pattern.finditer(text):
        found = match
    return found


def group_of(pattern: re.Pattern[str]) -> Callable[[str], Place | None]:
    """A rule: what the groups of the last match hold."""

    def rule(text: str) -> Place | None:
        match = last(pattern, text)
        if match is None:
            return None
        group = match.lastindex or 1
        return Place(match[group].strip(" *"), match.start(group), match.end(group))

    return rule


def after(pattern: re.Pattern[str]) -> Callable[[str], Place | None]:
    """A rule: what follows the last match, up to the end of its sentence, or the first math in it when it is a sentence."""

    def rule(text: str) -> Place | None:
        match = last(pattern, text)
        return None if match is None else _statement(text, match.end())

    return rule


def _statement(text: str, start: int) -> Place | None:
    rest = text[start : start + MAX_CANDIDATE_CHARS]
    lead = _LEAD.match(rest)
    skipped = lead.end() if lead else 0
    rest = rest[skipped:]
    display = _MATH.match(rest)
    end = _SENTENCE_END.search(rest, display.end() if display else 0)
    candidate = rest[: end.start()] if end else rest
    if reply := _YES.match(candidate):
        return Place(reply[1], start + skipped, start + skipped + reply.end(1))
    place = Place(candidate.strip(' *`",}'), start + skipped, start + skipped + len(candidate))
    return place if _looks_like_an_answer(candidate) else _inside(candidate, place)


def _inside(candidate: str, place: Place) -> Place | None:
    """The math or the number in a sentence that says the answer with more words."""
    for rule in (math, number):
        found = rule(candidate)
        if found is not None:
            return Place(found.answer, place.start + found.start, place.start + found.end)
    return place if len(candidate.split()) <= 3 * MAX_WORDS and candidate.strip() else None


def _looks_like_an_answer(candidate: str) -> bool:
    """Math, or at most four words: `$5$ apples`, `Answer: B`, `12 square meters`. Each Chinese sign is a word."""
    bare = _MATH.sub(" ", candidate)
    return bool(candidate.strip()) and len(_CHINESE.sub(" x ", bare).split()) <= MAX_WORDS


def chosen(text: str) -> Place | None:
    """`option B is correct`."""
    match = last(_CHOSEN, text)
    return None if match is None else Place(match[1], match.start(1), match.end(1))


def last_line(text: str) -> Place | None:
    """The last line when it is a lone letter or an expression without words."""
    line = text.rstrip()
    start = line.rfind("\n") + 1
    line = line[start:]
    inner = line.strip()
    if len(inner) > MAX_LINE_CHARS or not (_LONE.fullmatch(inner) or (start and _EXPRESSION.fullmatch(inner))):
        return None
    return Place(inner, start, start + len(line)) if "$" not in inner and "\\" not in inner else None


def bold(text: str) -> Place | None:
    """The last thing in bold that has a number in it, or in the last line the last one of few words."""
    ending = text.rstrip().rfind("\n")
    found = None
    for match in _BOLD.finditer(text):
        inner = match[1].strip().rstrip(".")
        if len(inner.split()) > MAX_WORDS or inner.endswith(":") or inner.lower().startswith("step"):
            continue
        is_whole_line = text[: match.start()].rstrip(" ").endswith("\n") and text[match.end() : match.end() + 1] == "\n"
        if _NUMBER.search(inner) or (match.start() > ending and not is_whole_line):
            found = Place(inner, match.start(1), match.end(1))
    return found


def math(text: str) -> Place | None:
    """The last formula; `$5 now and $8` is none."""
    skipped = max(0, len(text) - MAX_MATH_CHARS)
    tail = text[skipped:]
    if "$" not in tail and "\\(" not in tail and "\\[" not in tail:
        return None
    found = None
    for match in _MATH.finditer(tail):
        if match[2] is None or not _PRICE.match(match[2]):
            found = match
    if found is None:
        return None
    group = next(index for index, value in enumerate(found.groups(), start=1) if value is not None)
    return Place(found[group].strip(), found.start(group) + skipped, found.end(group) + skipped)


def _is_denied(text: str, match: re.Match[str]) -> bool:
    before = _DENIED.search(text, max(0, match.start() - 24), match.end())
    return _TAKEN_BACK.match(text, match.end()) is not None or (before is not None and before.end() >= match.start())


def number(text: str) -> Place | None:
    """The last number, fraction, ratio or power of which the text does not say at once that it is none, `7 is wrong`."""
    if not _TAKEN_BACK.search(text) and not _DENIED.search(text):
        match = last(_NUMBER, text)
        return None if match is None else Place(match[0].strip(), match.start(), match.end())
    found = list(_NUMBER.finditer(text))
    denied = {match[0].strip() for match in found if _is_denied(text, match)}
    match = next((match for match in reversed(found) if match[0].strip() not in denied), None)
    return None if match is None else Place(match[0].strip(), match.start(), match.end())
