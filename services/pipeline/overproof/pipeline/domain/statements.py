"""A problem's identity: its id, and the group of its near-duplicates."""

from __future__ import annotations

import re
import unicodedata

from overproof.shared.specs import digest

SIZING = re.compile(r"\\(?:left|right|big|Big)(?![a-zA-Z])")
SPACING = re.compile(r"\\[,;:! ]|\\q?quad|~|\s+")
NUMBER = re.compile(r"\d+(?:\.\d+)?")
WORD = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z]{4,}")

ASKING = frozenset(
    {
        *(
            "find",
            "compute",
            "evaluate",
            "determine",
            "calculate",
            "what",
            "which",
            "value",
            "solve",
            "show",
            "simplify",
        ),
        *(
            "express",
            "give",
            "given",
            "answer",
            "please",
            "there",
            "that",
            "this",
            "with",
            "from",
            "have",
            "does",
            "many",
        ),
        *("much", "your", "following", "below", "exactly"),
    }
)
"""Words that ask rather than say: rewording the question does not make a new problem."""


def normalise(statement: str) -> str:
    """The statement without what does not change its meaning: Unicode form, case, spacing."""
    text = SIZING.sub("", unicodedata.normalize("NFKC", statement)).casefold()
    return " ".join(SPACING.sub(" ", text).split())


def problem_id(statement: str) -> str:
    """32 hex digits of the hash of the normalised statement."""
    return digest(normalise(statement))


def group_id(statement: str) -> str:
    """32 hex digits shared by near-duplicates: the same numbers in the same order and the same content words.

    Content words are alphabetic, of four letters or more, not capitalised inside a sentence (names), and not words that only
    ask. So re-punctuated, re-worded and renamed copies meet; a paraphrase with other content words does not.
    """
    text = unicodedata.normalize("NFKC", statement)
    words = {word for word in WORD.findall(text) if not _is_name(word, text)}
    content = sorted({word.casefold() for word in words} - ASKING)
    numbers = NUMBER.findall(text)
    return digest([numbers, content]) if numbers or len(content) > 2 else problem_id(statement)


def _is_name(word: str, text: str) -> bool:
    """Capitalised somewhere that is not the start of a sentence, or at the start while never in lower case."""
    return word[0].isupper() and re.search(rf"\b{word.lower()}\b", text) is None
