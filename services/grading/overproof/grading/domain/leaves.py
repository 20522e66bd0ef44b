"""Answers without parts: numbers with their units, words, dates, ratios, numbers in a base, letters of choices."""

from __future__ import annotations

import re
from fractions import Fraction

from overproof.grading.domain.calendar import date_of, hour_of, time_of
from overproof.grading.domain.forms import Form, Kind
from overproof.grading.domain.numerals import spelled_out
from overproof.grading.domain.parser import parse
from overproof.grading.domain.sentences import denies
from overproof.grading.domain.symbols import SAME_WORDS
from overproof.grading.domain.tree import Node, Unreadable, number, walk
from overproof.grading.domain.units import factors_of, is_sentence, split_unit, unit_of

_BASED = re.compile(r"^(-?[0-9A-Fa-f]+(?:\.[0-9A-Fa-f]+)?)_\{?(\d{1,2})\}?$", re.ASCII)
_BASE_WORDS = re.compile(r"^([0-9A-Fa-f]+)[ (]*base[ -]?(\d{1,2})[)]*$", re.ASCII)
_PREFIXED = re.compile(r"^0([xXbBoO])([0-9A-Fa-f]+)$", re.ASCII)
_NAMED = re.compile(r"^([0-9A-Fa-f]+)[ (]*(?:in )?(binary|octal|hexadecimal|hex)[)]*$", re.ASCII)
_BASES = {"x": "16", "b": "2", "o": "8", "hex": "16", "hexadecimal": "16", "binary": "2", "octal": "8"}
_LETTER = re.compile(r'^"?\(?"?([A-Za-z])"?\)?"?$')
_COMPOUND = re.compile(
    r'^(\d{1,9}(?:\.\d{1,9})?) ?"? ?([A-Za-z]+) ?"? ?[∧,]? ?(\d{1,9}(?:\.\d{1,9})?) ?"? ?([A-Za-z]+) ?"?$', re.ASCII
)
_REMAINDER = re.compile(r'^(\d+) ?"? ?(?:R|r|rem|remainder)\.? ?"? ?(\d+)$', re.ASCII)
_OUT_OF = re.compile(r'^(\d+) ?"?(?:in|out of)"? ?(\d+)$', re.ASCII)
_TO = re.compile(r"^([\d./]+) ?to ?([\d./]+)$", re.ASCII)
_PARENTHESISED_BASE = re.compile(r"^\((\w+)\)(_\{?\d+\}?)$", re.ASCII)
_RATIO = re.compile(r"^[^:]+(?::[^:]+){1,3}$")
_WORDS = re.compile(r"^(?=.*(?:[^\W\d_]{2}|[一-鿿]))[\w\s\"'.,;:!?()&-]*$")
_DIGITS = re.compile(r"^[\d\s.,]+$")
_LETTER_RUN = re.compile(r'^"?([A-Z]{2,})"?$')
_SPELLED = re.compile(r'^"?[a-zA-Z]+(?:[ -][a-zA-Z]+)*"?$')
_QUOTED_NUMBER = re.compile(r'^"\(?(\d[^"()]*)\)?"$')
_QUOTED = re.compile(r'^"([^"]*)"$')
_STATES = re.compile(
    r"^(?:the )?(?:final |correct )?(?:answer|value|result|solution|total|area|sum) (?:is|equals)[: ]*$", re.IGNORECASE
)
_STATED = re.compile(r"^(?:(?:the )?answer is|it is|it's|it will be|it was|they are|there are|this is|we get)\s+")

_PUNCTUATION = re.compile(r"(?:[\"'.,;:!?()\s]|(?<=\w)-|-(?!\d))+")
"""What goes between words; the sign of a number stays."""
_SAID_OF = re.compile(
    r"(?:the |this )?(?:function|graph|curve|series|sequence|integral|triangle|quadrilateral|shape|statement|number|limit|system|conic)"
    r" (?:is (?:an? )?)?(even|odd|neither|convergent|divergent|converges|diverges|true|false|prime|composite|rational|irrational"
    r"|ellipse|parabola|hyperbola|circle|isosceles|equilateral|scalene|square|rectangle|rhombus|trapezoid|parallelogram|kite"
    r"|increasing|decreasing|consistent|inconsistent|continuous|discontinuous)"
)
"""`the function is even` for `even`: a property of the thing that was asked about."""
_IN_TIME = re.compile(
    r"(?:in|on) ((?:mon|tues|wednes|thurs|fri|satur|sun)day|january|february|march|april|may|june|july|august|september|october"
    r"|november|december)"
)


def read_mark(text: str) -> Form | None:
    """An ellipsis, a date, a time of day."""
    if text == "…":
        return Form(Kind.WORDS, text)
    if text[-1] in 'mM."' and (hour := hour_of(text)):
        return Form(Kind.SCALAR, node=number(hour[0]), unit=hour[1])
    if ":" in text and (time := time_of(text.removeprefix('"') if text.count('"') == 2 and text[-1] == '"' else text)):
        return Form(Kind.WORDS, time)
    if len(text) < 40 and text[-1] not in ")}" and (date := date_of(text)):
        return Form(Kind.WORDS, date)
    return None


def compound(text: str) -> Form | None:
    """`2 hours 30 minutes`, `5 feet 4 inches`: one value in the smaller unit. None for everything else."""
    match = _COMPOUND.match(text)
    if match is None:
        return None
    large, small = unit_of(match[2]), unit_of(match[4])
    factors = factors_of(large, small) if large and small else None
    if factors is None or factors[0] <= factors[1]:
        return None
    value = (Fraction(match[1]) * factors[0] + Fraction(match[3]) * factors[1]) / factors[1]
    return Form(Kind.SCALAR, node=number(value), unit=small or "")


def read_leaf(text: str) -> Form:
    """The form of normalised text without separators, relations or brackets around it. Raises TooLarge."""
    if match := _REMAINDER.match(text):
        return Form(Kind.WORDS, f"{match[1]} remainder {match[2]}")
    return _read_number_or_words(_as_ratio(text))


def _as_ratio(text: str) -> str:
    """`3 to 4`, `1 out of 2` and `(1011)_2` in the spellings that are read."""
    if match := _OUT_OF.match(text):
        return f"{match[1]}/{match[2]}"
    if match := _TO.match(text):
        return f"{match[1]}:{match[2]}"
    match = _PARENTHESISED_BASE.match(text)
    return match[1] + match[2] if match else text


def _read_number_or_words(text: str) -> Form:
    if match := _LETTER.match(text):
        return scalar(match[1], text)._replace(text="choice" if "(" in text and match[1] in "abcdeABCDE" else "")
    if (text[:1].isalnum() or text[0] in '-"(') and (form := _based(text.replace('"', ""))):
        return form
    if ":" in text and (match := _QUOTED.match(text)):
        text = match[1].strip()
    if ":" in text and _RATIO.match(text) and not text.startswith('"'):
        return _ratio(text)
    if match := _LETTER_RUN.match(text):
        return Form(Kind.WORDS, words_of(match[1]), unit="letters")
    if _SPELLED.match(text) and (form := _spelled(words_of(text))):
        return form
    if match := _QUOTED_NUMBER.match(text):
        text = match[1]
    return scalar(text, text)


def _based(text: str) -> Form | None:
    if match := _PREFIXED.match(text):
        return Form(Kind.BASED, match[2].lstrip("0").upper() or "0", unit=_BASES[match[1].lower()])
    if match := _NAMED.match(text):
        return Form(Kind.BASED, match[1].lstrip("0").upper() or "0", unit=_BASES[match[2]])
    match = _BASED.match(text) or _BASE_WORDS.match(text)
    if match is None or not _are_digits(match[1], int(match[2])):
        return None
    if int(match[2]) == 10 and match[1].isdigit():
        return Form(Kind.SCALAR, node=number(int(match[1])))
    return Form(Kind.BASED, match[1].lstrip("0").upper() or "0", unit=str(int(match[2])))


def _are_digits(digits: str, base: int) -> bool:
    """Whether what stands before a base are its digits: `a_7` is a member of a sequence. Decimal digits may err."""
    return all(digit.isdigit() or int(digit, 16) < base for digit in digits if digit not in "-.")


def _spelled(words: str) -> Form | None:
    """`seven`, `seven students`, `two thirds`; not `one of them is`."""
    found = spelled_out(words)
    if found is None:
        return None
    value, rest = found
    unit = unit_of(rest) if rest else ""
    return None if unit is None else Form(Kind.SCALAR, node=number(value), unit=unit)


def _ratio(text: str) -> Form:
    parts = tuple(scalar(piece, piece) for piece in text.split(":"))
    if all(part.kind is Kind.SCALAR for part in parts):
        return Form(Kind.RATIO, "", parts)
    head, _, rest = text.partition(":")
    if _WORDS.match(head) and not denies(head) and "base" not in head:
        return scalar(rest.strip(), text)
    return Form(Kind.WORDS, words_of(text)) if _WORDS.match(text) or text[0] == '"' else Form(Kind.OPAQUE, text)


def scalar(text: str, whole: str) -> Form:
    """One value with its unit, or both of a `±`; words or opaque where the text is none; `whole` is what words are taken from."""
    measure = split_unit(text)
    try:
        node = _unquoted(measure.value)
    except Unreadable:
        plain = _WORDS.match(whole) or _DIGITS.match(whole)
        return Form(Kind.WORDS, words_of(whole)) if plain else Form(Kind.OPAQUE, whole)
    if measure.scale != 1:
        node = Node("mul", (node, number(measure.scale)))
    signs = [part for part in walk(node) if part.op == "pm"]
    if signs:
        both = tuple(Form(Kind.SCALAR, node=_with_signs(node, upper), unit=measure.unit) for upper in (True, False))
        return Form(Kind.LIST, ",", both)
    return Form(Kind.SCALAR, node=node, unit=measure.unit)


def _unquoted(text: str) -> Node:
    """The tree of a value; words in quotation marks before it (`"Area: "5`) are a label and go."""
    if text.startswith('"'):
        label, _, rest = text[1:].partition('"')
        if rest and len(label) > 1 and not label[0].isdigit() and (not is_sentence(label) or _STATES.match(label)):
            text = rest.lstrip(":= ")
        elif not rest and label[:1].isdigit():
            text = label
    return parse(text)


def _with_signs(node: Node, upper: bool) -> Node:
    """The tree with every ± as + (upper) or - and every ∓ the other way round."""
    args = tuple(_with_signs(arg, upper) for arg in node.args)
    if node.op != "pm":
        return node._replace(args=args)
    plus = upper == (node.value == "±")
    return Node("add", (args[0], args[1] if plus else Node("neg", (args[1],))))


def words_of(text: str) -> str:
    """Text for comparing words: lower case, no quotation marks, no punctuation at the ends, no article, single blanks."""
    words = _STATED.sub("", _PUNCTUATION.sub(" ", text).strip().lower())
    words = (_IN_TIME.fullmatch(words) or _SAID_OF.fullmatch(words) or [words, words])[1]
    for article in ("the ", "a ", "an "):
        words = words.removeprefix(article)
    return SAME_WORDS.get(words, words)
