"""Units and other words behind a value: `5 \\text{ cm}^2`, `12 marbles`, `30 \\%`, `45^\\circ`, `3 million`."""

from __future__ import annotations

import re
from collections import Counter
from fractions import Fraction
from typing import NamedTuple

from overproof.grading.domain.measures import BASES, FILLERS, NO_UNITS, OPERATIONS, PLURALS, SHORT_NOUNS, UNITS
from overproof.grading.domain.sentences import denies
from overproof.grading.domain.symbols import FUNCTIONS, NAMED_CONSTANTS, SCALE_WORDS, WORDS
from overproof.grading.domain.tree import Node, symbols

MIN_LETTERS_OF_A_WORD = 4
"""An unknown run of fewer letters after a number may be a product, `3 abc`."""

_POWER = r"(?:\^(?:\{-?\d\}|-?\d))?"
_QUOTED_TAIL = re.compile(rf"^(?P<value>.*?[^\s\"])\s*(?P<unit>(?:\"[^\"]*\"{_POWER}[ /*.]*)+)$", re.DOTALL)
_PLAIN_TAIL = re.compile(
    rf"^(?P<value>.*[\d)}}π°%])(?P<gap>\s*)(?P<unit>[A-Za-z]{{2,}}{_POWER}(?:(?: |/| / )[A-Za-z]+{_POWER})*)$",
    re.DOTALL,
)
_MARKED_TAIL = re.compile(r"^(?P<value>.*[\d)}π.])\s*(?P<unit>[%°])$", re.DOTALL)
_TERMS_OF_DEGREES = re.compile(
    r"-?\(?-?[\d./]*(?:[a-z]\*?\d*)?°\)?\*?[a-z]?(?:[-+±]\(?-?[\d./]*(?:[a-z]\*?\d*)?°\)?\*?[a-z]?)+"
)
_ANGLE_FUNCTION = re.compile(r"sin|cos|tan|cot|sec|csc")
_WORD = re.compile(r"[^\W\d_]+|\^\{?-?\d\}?|[/%°]")
_PART = re.compile(r"([/*]?)([^\W\d_]+)(?:\^(-?\d))?")


class Measure(NamedTuple):
    """`value` is the text before the unit; `unit` its one name ("" without); `scale` what `million` and the like multiply by.

    Units are written `cm^2`, `m/s`; nouns and mixed phrases are their words in the singular, sorted, with blanks between them.
    """

    value: str
    unit: str = ""
    scale: int = 1


def split_unit(text: str) -> Measure:
    """The value and the unit of normalised text. Text without a unit comes back as it is."""
    if "°" in text[:-1] and (stripped := _in_degrees(text)) is not None:
        return Measure(stripped, "degree")
    if match := _MARKED_TAIL.match(text):
        if match["unit"] == "%" or not _ANGLE_FUNCTION.search(text):
            return Measure(match["value"], "percent" if match["unit"] == "%" else "degree")
        return Measure(text)
    match = _QUOTED_TAIL.match(text) if text.endswith(('"', "}")) or text[-1:].isdigit() else None
    if match and not match["value"].endswith(("^", "_", "+", "-", "=", "*", "/", "(", ",")):
        words = match["unit"].replace('"', " ").strip()
        if words.startswith("(") and words.endswith(")") and is_sentence(words) and not denies(words):
            return Measure(match["value"])  # a remark, `5 (as required)`
        if len(words) == 1 and words not in UNITS and (words.islower() or words in "MB"):
            return Measure(text)  # a factor or a million, not a unit
        return Measure(text) if is_sentence(words) else _measure(match["value"], words)
    match = _PLAIN_TAIL.match(text)
    return _measure(match["value"], match["unit"]) if match and _is_unit(match["unit"], match["gap"]) else Measure(text)


def _in_degrees(text: str) -> str | None:
    """`30°+360°n` without its marks; None unless it is a sum in which every term has one."""
    if not _TERMS_OF_DEGREES.fullmatch(text):
        return None
    return text.replace("°", "")


def unit_of(words: str) -> str | None:
    """The unit or noun that words are; None for a sentence."""
    return None if is_sentence(words) else _measure("", words).unit


def is_sentence(words: str) -> bool:
    """Whether words say more than what is counted: `is odd`, `for all`."""
    found = [word.lower() for word in _WORD.findall(words) if word[0].isalpha()]
    if any(word in NO_UNITS for word in found) or (len(found) == 1 and found[0] in OPERATIONS):
        return True
    return bool(found) and denies(found[-1])


def _is_unit(words: str, gap: str) -> bool:
    first = next(word for word in _WORD.findall(words) if word.isalpha())
    if is_sentence(words):
        return False
    if gap and first in SHORT_NOUNS:
        return True
    if first in FUNCTIONS or first in NAMED_CONSTANTS or (first.lower() in WORDS and " " not in words):
        return False
    if first in UNITS or first in SCALE_WORDS:
        return True
    return bool(gap) and max(map(len, words.split())) >= MIN_LETTERS_OF_A_WORD


def _measure(value: str, words: str) -> Measure:
    scale = 1
    names: list[str] = []
    for word in _WORD.findall(words):
        if word.lower() in SCALE_WORDS:
            scale *= SCALE_WORDS[word.lower()]
        elif word.lower() not in FILLERS or (word == "in" and (not names or names[-1] in {"square", "cubic", "/"})):
            names.append(_unit_name(word))
    return Measure(value.strip(), _phrase(names), scale)


def _unit_name(word: str) -> str:
    if word.startswith("^"):
        return "^" + word.strip("^{}")
    if word.lower() == "per":
        return "/"
    return UNITS.get(word) or UNITS.get(word.lower()) or _singular(word.lower())


def _singular(word: str) -> str:
    if word in PLURALS:
        return PLURALS[word]
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes")):
        return word[:-2]
    return word.removesuffix("s") if not word.endswith("ss") else word


def _phrase(names: list[str]) -> str:
    """One spelling: `square cm` is `cm^2`, `m/s squared` is `m/s^2`; words that are no units are sorted."""
    if not all(name in UNITS or name[0] in "^/" for name in names):
        return " ".join(sorted(set(names)))
    power = {"square": "^2", "cubic": "^3"}
    written: list[str] = []
    for name in names:
        before = written.pop() if written and written[-1] in power else ""
        if name in power and written and written[-1] not in {"/", *power} and name == names[-1]:
            written.append(power[name])  # `m/s squared`
        else:
            written += [name, *([power[before]] if before else [])]
    unit = re.sub(r"(?<=[a-zA-Z\d]) (?=[a-zA-Z])", "*", " ".join(written)).replace(" ", "")
    return {"mph": "mi/h", "kph": "km/h"}.get(unit, unit)


def as_measure(node: Node) -> tuple[Node, str] | None:
    """`8 m` and `3 m/s`, read as products, as a number and its unit; None when other letters than those of units are in it."""
    powers: Counter[str] = Counter()
    value = _without_units(node, 1, powers)
    if value is None or not powers or any(name not in UNITS for name in powers):
        return None
    named = [(UNITS[name], power) for name, power in powers.items()]
    return value, "*".join(name if power == 1 else f"{name}^{power}" for name, power in named)


def _without_units(node: Node, power: int, powers: Counter[str]) -> Node | None:
    """The number of a product of numbers and letters, whose powers are counted; None for what is no such product."""
    if node.op == "sym":
        powers[node.name] += power
        return Node("num", (), Fraction(1))
    if not symbols(node):
        return node
    if node.op == "pow" and node.args[0].op == "sym" and (times := _small_power(node.args[1])):
        powers[node.args[0].name] += power * times
        return Node("num", (), Fraction(1))
    if node.op in {"mul", "div"}:
        signs = [1] * len(node.args) if node.op == "mul" else [1, -1]
        parts = [_without_units(arg, power * sign, powers) for arg, sign in zip(node.args, signs, strict=True)]
        return None if None in parts else node._replace(args=tuple(part for part in parts if part is not None))
    return None


def _small_power(node: Node) -> int:
    """A whole exponent from -3 to 3; 0 for any other."""
    if node.op == "neg":
        return -_small_power(node.args[0])
    return int(node.number) if node.op == "num" and node.number in {1, 2, 3} else 0


def factors_of(one: str, other: str) -> tuple[Fraction, Fraction] | None:
    """What to multiply values in two units by to compare them; None when they do not measure the same."""
    left, right = _in_bases(one), _in_bases(other)
    return None if left is None or right is None or left[0] != right[0] else (left[1], right[1])


def _in_bases(unit: str) -> tuple[dict[str, int], Fraction] | None:
    """What a unit like `km/h` or `cm^2` measures (kinds and their powers) and how many of the smallest units it is."""
    powers: Counter[str] = Counter()
    factor = Fraction(1)
    if "".join(match[0] for match in _PART.finditer(unit)) != unit:
        return None
    for below, name, power in _PART.findall(unit):
        if name not in BASES:
            return None
        kind, own, size = BASES[name]
        times = int(power or 1) * (-1 if below == "/" else 1)
        powers[kind] += own * times
        factor *= size**times
    return {kind: power for kind, power in powers.items() if power}, factor


def contradict(one: str, other: str) -> bool:
    """Whether two different units or nouns cannot be the same thing: `cm` and `cm^2`, `apple` and `orange`, `cm` and `apple`.

    Where one names all that the other does (`red apple`, `apple`) they do not contradict. A degree may be one of temperature.
    """
    if "degree" in {one, other} and {"degC", "degF"} & {one, other}:
        return False
    if is_measure(one) and is_measure(other):
        return True
    left, right = set(one.split()), set(other.split())
    return not (left <= right or right <= left)


def is_measure(unit: str) -> bool:
    """Whether a unit is one that is measured in, not a noun."""
    return bool(unit) and all(word in UNITS for word in re.findall(r"[^\W\d_]+", unit))
