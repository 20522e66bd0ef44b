"""Numbers written as English words: `seven students`, `twenty-five`, `two thirds`, `one hundred and five`, `third`."""

from __future__ import annotations

from fractions import Fraction

from overproof.grading.domain.symbols import NUMBER_WORDS, SCALE_WORDS, words

MAX_WORDS = 12

_TENS = {
    word: 10 * value
    for value, word in enumerate(words("twenty thirty forty fifty sixty seventy eighty ninety"), start=2)
}
_UNITS = NUMBER_WORDS | _TENS
_ORDINALS = {
    word: value
    for value, word in enumerate(words("first second third fourth fifth sixth seventh eighth ninth tenth"), start=1)
}
_SHARES = {word: value for word, value in _ORDINALS.items() if value > 2} | {"half": 2, "halve": 2, "quarter": 4}


def spelled_out(text: str) -> tuple[Fraction, str] | None:
    """The number that words begin with, and the words behind it; None when they begin with none."""
    parts = text.replace("-", " ").split()
    if not parts or len(parts) > MAX_WORDS:
        return None
    if len(parts) == 1 and parts[0] in _ORDINALS:
        return Fraction(_ORDINALS[parts[0]]), ""
    if parts[0] == "half" or parts[:2] == ["a", "half"]:
        return Fraction(1, 2), " ".join(parts[1 if parts[0] == "half" else 2 :])
    value, used = _cardinal(parts)
    if not used:
        return None
    share = _SHARES.get(parts[used].removesuffix("s")) if used < len(parts) else None
    if share:
        return Fraction(value, share), " ".join(parts[used + 1 :])
    return Fraction(value), " ".join(parts[used:])


def _cardinal(parts: list[str]) -> tuple[int, int]:
    """The whole number that the first parts name, and how many they are."""
    total = part = used = 0
    last = 1_000_000  # the smaller number words follow the larger ones
    for at, word in enumerate(parts):
        if word == "and" and used == at and at and parts[at - 1] in SCALE_WORDS:
            continue
        if word in _UNITS and _UNITS[word] < last and (last >= 10 or not used):
            part += _UNITS[word]
            last = 10 if _UNITS[word] >= 20 else 1
        elif word == "hundred" and 0 < part < 20:
            part, last = part * 100, 100
        elif word in SCALE_WORDS and word not in {"hundred", "dozen"} and part:
            total, part, last = total + part * SCALE_WORDS[word], 0, 1_000
        else:
            break
        used = at + 1
    return total + part, used
