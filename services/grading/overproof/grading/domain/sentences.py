"""Short sentences: those that state an answer (`Tom has 5 apples`, `Yes, it is`) and words that turn one round (`5 is wrong`)."""

from __future__ import annotations

import re
from typing import NamedTuple

from overproof.grading.domain.symbols import words

MAX_HEAD_WORDS = 10
"""`so the total number of red apples` has seven."""

_DENYING = re.compile(
    r"(?<![^\W_])(?:not|never|cannot|nope|wrong(?:ly)?|incorrect|invalid|inadmissible|extraneous|impossible|undefined|unlikely"
    r"|reject\w*|discard\w*|exclud\w*|ignor\w*|fail(?:s|ed)?|disproved|ruled out|false|untrue|\w+n't)(?![^\W_])",
    re.IGNORECASE,
)

_STATES = re.compile(
    r"^(?:so|thus|hence|therefore|then|and so)?,? ?(?P<head>[A-Za-z][A-Za-z' -]*?),? "
    r"(?:is|are|was|were|equals|has|have|had|gets|costs|needs|makes|gives|would be|will be|must be|is equal to) "
    r"(?:exactly |only |just )?(?P<value>(?=[-(]*(?:\d|\.\d|\\(?:frac|sqrt)\b|π)).+)$",
    re.IGNORECASE | re.DOTALL,
)
_OTHERWISE = frozenset(
    words(
        "no not never if unless without except least most more less fewer than about nearly almost over under above below up "
        "twice half double triple square squared cube cubed root reciprocal opposite negative inverse complement log percent "
        "minus plus times or and but either neither between maybe perhaps probably possibly might may could cannot previous "
        "none nobody nothing nor hardly other another bound estimate guess instead"
    )
)
"""With one of these the sentence says something else than that its last value is the answer."""

_CONNECTIVE = re.compile(
    r"^(?:(?:so|thus|hence|therefore|then)\b|∴|⇒|→|\\(?:therefore|Rightarrow|implies|rightarrow|to)\b)\s{0,9}[,:]?\s{0,9}"
    r"(?=[-+(\[{$]*(?:\d|\\(?:frac|dfrac|tfrac|sqrt|pi|\(|\[|\{|boxed)|π|√|[A-Za-z]\s?=))",
    re.IGNORECASE,
)
_END_MARKS = ("✓", "✔", "∎", "■", "\\checkmark", "\\blacksquare", "\\qed")
_IS_THE_ANSWER = re.compile(
    r"^(.{1,80}?)[, ]+is (?:the|my|our) (?:only |final |correct |right )?(?:answer|solution|result)$",
    re.IGNORECASE | re.DOTALL,
)
_REPLY = re.compile(r'^"?(yes|no)(?:[,.;:]|∧|;) ?[^\d\\=+*/^<>≤≥]{4,}$', re.IGNORECASE)
_MAX_REPLY_WORDS = 15
_QUALIFIES = frozenset(
    words("yes no but if only unless except wait however sometimes maybe perhaps provided when actually correction")
)
"""With one of these the reply is not the whole of what is said: `Yes, but only for odd n`."""


class Statement(NamedTuple):
    """What a sentence is about, in words, and the value that it states, as text."""

    head: str
    value: str


def denies(text: str) -> bool:
    """Whether words say of an answer that it is none."""
    return _DENYING.search(text) is not None


def statement(text: str) -> Statement | None:
    """`The probability is 5/36`, `So Tom has 5 apples`; None where there is no such sentence, or one that may say otherwise."""
    match = _STATES.match(text) if " " in text and text[0].isalpha() else None
    if match is None or denies(text) or len(match["head"].split()) > MAX_HEAD_WORDS:
        return None
    said = set(re.findall(r"[a-z]+", match["head"].lower()))
    return None if said & _OTHERWISE or max(map(len, said)) < 3 else Statement(match["head"], match["value"])


def without_frame(text: str) -> str:
    """The answer without what connects and ends a proof: `Thus 5`, `⇒ x=5`, `5 ∎`, `5 is the answer`."""
    text = _CONNECTIVE.sub("", text)
    if mark := next((mark for mark in _END_MARKS if text.endswith(mark)), None):
        text = text.removesuffix(mark).rstrip()
    framed = _IS_THE_ANSWER.match(text) if text.endswith(("answer", "solution", "result")) else None
    return framed[1] if framed and not denies(text) else text


def reply(text: str) -> str | None:
    """`yes` of `Yes, it is.` and `no` of `No, it is not closed`: a reply with its reason in words; None for everything else."""
    match = _REPLY.match(text) if text[:3].lower() in {"yes", "no,", "no.", '"ye', '"no'} else None
    if match is None or len(text.split()) > _MAX_REPLY_WORDS:
        return None
    rest = re.findall(r"[a-z]+", text[match.end(1) :].lower())
    return None if _QUALIFIES & set(rest) else match[1].lower()
