"""Units and other words behind a value: `5 \\text{ cm}^2`, `12 marbles`, `30 \\%`, `45^\\circ`, `3 million`."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import NamedTuple

from overproof.grading.domain.symbols import CONVERSIONS, FUNCTIONS, NAMED_CONSTANTS, SCALE_WORDS, UNITS, WORDS

MIN_LETTERS_OF_A_WORD = 4
"""An unknown run of fewer letters after a number may be a product, `3 abc`."""

_POWER = r"(?:\^(?:\{-?\d\}|-?\d))?"
_QUOTED_TAIL = re.compile(rf"^(?P<value>.*?[^\s\"])\s*(?P<unit>(?:\"[^\"]*\"{_POWER}[ /*.]*)+)$", re.DOTALL)
_PLAIN_TAIL = re.compile(
    rf"^(?P<value>.*[\d)}}π°%])(?P<gap>\s*)(?P<unit>[A-Za-z]{{2,}}(?:(?: |/| / )[A-Za-z]+)*{_POWER})$", re.DOTALL
)
_MARKED_TAIL = re.compile(r"^(?P<value>.*[\d)}π.])\s*(?P<unit>[%°])$", re.DOTALL)
_ANGLE_FUNCTION = re.compile(r"sin|cos|tan|cot|sec|csc")
_WORD = re.compile(r"[A-Za-z]+|\^\{?-?\d\}?|[/%°]")


class Measure(NamedTuple):
    """`value` is the text before the unit; `unit` its one name ("" without); `scale` what `million` and the like multiply by."""

    value: str
    unit: str = ""
    scale: int = 1


def split_unit(text: str) -> Measure:
    """The value and the unit of normalised text. Text without a unit comes back as it is."""
    if match := _MARKED_TAIL.match(text):
        if match["unit"] == "%" or not _ANGLE_FUNCTION.search(text):
            return Measure(match["value"], "percent" if match["unit"] == "%" else "degree")
        return Measure(text)
    match = _QUOTED_TAIL.match(text) if text.endswith(('"', "}")) or text[-1:].isdigit() else None
    if match and not match["value"].endswith(("^", "_", "+", "-", "=", "*", "/", "(", ",")):
        return _measure(match["value"], match["unit"].replace('"', " "))
    match = _PLAIN_TAIL.match(text)
    return _measure(match["value"], match["unit"]) if match and _is_unit(match["unit"], match["gap"]) else Measure(text)


def _is_unit(words: str, gap: str) -> bool:
    first = _WORD.findall(words)
    names = [word for word in first if word.isalpha()]
    if names[0] in FUNCTIONS or names[0] in NAMED_CONSTANTS or names[0].lower() in WORDS:
        return False
    if names[0] in UNITS or names[0] in SCALE_WORDS:
        return True
    return bool(gap) and len(names[0]) >= MIN_LETTERS_OF_A_WORD


def _measure(value: str, words: str) -> Measure:
    scale = 1
    names: list[str] = []
    for word in _WORD.findall(words):
        if word.lower() in SCALE_WORDS:
            scale *= SCALE_WORDS[word.lower()]
        else:
            names.append(_unit_name(word))
    unit = _with_powers(names)
    return Measure(value.strip(), {"mph": "mi/h", "kph": "km/h"}.get(unit, unit), scale)


def _unit_name(word: str) -> str:
    if word.startswith("^"):
        return "^" + word.strip("^{}")
    if word.lower() == "per":
        return "/"
    return UNITS.get(word) or UNITS.get(word.lower()) or word.lower()


def _with_powers(names: list[str]) -> str:
    """`square cm` is `cm^2`, `cubic m` is `m^3`."""
    power = {"square": "^2", "cubic": "^3"}
    if len(names) > 1 and names[0] in power:
        return names[1] + power[names[0]] + "".join(names[2:])
    return "".join(names)


def factors_of(one: str, other: str) -> tuple[Fraction, Fraction] | None:
    """What to multiply values in two units by to compare them; None when they do not measure the same."""
    left, right = CONVERSIONS.get(one), CONVERSIONS.get(other)
    return None if left is None or right is None or left[0] != right[0] else (left[1], right[1])


def contradict(one: str, other: str) -> bool:
    """Whether two different units cannot be the same thing: both are in the table, or both are one noun that is not."""
    left, right = _is_known(one), _is_known(other)
    return left is right and (left or (one.isalpha() and other.isalpha() and one.rstrip("s") != other.rstrip("s")))


def _is_known(unit: str) -> bool:
    return all(word in UNITS for word in re.findall(r"[A-Za-z]+", unit))
