"""LaTeX or plain text of an answer, brought to one compact spelling that the other stages read.

What is rewritten: outer `$ $`, `\\( \\)`, `\\boxed{}`, bold marks and the closing full stop go; spacing, `\\left \\right` and
font commands go; commands that are signs become the sign (`\\leq` is `≤`, `\\{` is `❴`); `\\text{...}` and its like become
`"..."`; thousands separators, money signs and full-width digits go. No value is computed here.
"""

from __future__ import annotations

import re
import unicodedata

from overproof.grading.domain.chinese import from_chinese, has_chinese
from overproof.grading.domain.notations import respelled
from overproof.grading.domain.sentences import without_frame
from overproof.grading.domain.symbols import (
    FUNCTIONS,
    NOTHING,
    SIGNS,
    SPACES,
    SUBSCRIPTS,
    SUPERSCRIPTS,
    UNICODE,
    VULGAR,
)

MAX_ANSWER_CHARS = 2_000
"""The longest gold answer of MATH has 159 characters and of OlympiadBench 204; past this it is prose or an attack."""

MAX_WRAPPERS = 8
"""`$\\boxed{\\text{(B)}}$` has three layers; nobody honest writes nine."""

_RAISED = re.compile(f"[{re.escape(''.join(SUPERSCRIPTS))}]+")
_LOWERED = re.compile(f"[{re.escape(''.join(SUBSCRIPTS))}]+")
_COMMAND = re.compile(r"\\([A-Za-z]+|.)", re.DOTALL)
_TEXT = re.compile(
    r"\\(?:text|mbox|mathrm|textbf|textit|textrm|textsf|texttt|textnormal|hbox|emph|rm|Text)\s*\{([^{}]*)\}"
)
_DRESS = re.compile(r"\\(?:textcolor|color|hspace|vspace)\*?\s*\{[^{}]*\}")
_HIDDEN = re.compile(r"\\[hv]?phantom\s*(?:\{[^{}]*\}|[^\s{}\\])")
_POSSESSIVE = re.compile(r"(?<=[A-Za-z]{2})'s(?= [a-z])")
_SET_OF_LETTERS = re.compile(r"(∈|\\in\b)\s*([ZNRQ])(?![A-Za-z_^'(])")
_OPERATOR = re.compile(r"\\operatorname\*?\s*\{\s*([A-Za-z]+)\s*\}")
_REALS = re.compile(r"\\(?:mathbb|Bbb|mathbf)\s*(?:\{\s*([RZNQC])\s*\}|\s([RZNQC])(?![A-Za-z]))")
_BLACKBOARD = {"R": "ℝ", "Z": "ℤ", "N": "ℕ", "Q": "ℚ", "C": "ℂ"}
_SHORT_FRACTION = re.compile(r"\\([dtc]?frac)\s*(\d)\s*(\d)")
_HALF_SHORT_FRACTION = re.compile(r"\\([dtc]?frac)\s*(?:(\d)\s*(?=\{)|(\{[^{}]*\})\s*(\d))")
_DEGREE = re.compile(r"\^\s*(?:\{\s*(?:\\circ|\\degree|°)\s*\}|\\circ(?![A-Za-z])|\\degree(?![A-Za-z])|°)")
_THOUSANDS_LATEX = re.compile(r"(?<=\d)(?:,\\!|\{ ?, ?\}|\\,|,\\ |\\ )\s*(?=\d{3}(?!\d))")
_BRACED_POINT = re.compile(r"(?<=\d)\{[.,]\}(?=\d)")
"""`3{.}5`, and with a comma where no thousands follow it, `1{,}5`: a decimal point."""
_INFIX_FRACTION = re.compile(r"\{([^{}]*)\\(over|choose)(?![A-Za-z])([^{}]*)\}")
_DOLLAR_PAIR = re.compile(r"(?<!\\)\$\$?([^$]*)(?<!\\)\$\$?")
_QUOTED_DOLLAR = re.compile(r"\\text(?:rm)?\{\s*\\?\$\s*\}")
_LETTERS = re.compile(r"\(?[A-Z](?: ?(?:,|and|, and) ?[A-Z])+\)?")
_JOINED = re.compile(r"(?:,? |^)(or|and)(?: |$)")
_BLANK = re.compile(r"\s+")
_THOUSANDS = re.compile(r"(?<![\d,.])[1-9]\d{0,2}(?:,\d{3})+(?!\d|,\d)", re.ASCII)
_SPACED_THOUSANDS = re.compile(r"(?<![\d.,/]) ?\b\d{1,3}(?: \d{3})+(?![\d/.]| \d)", re.ASCII)
_OR = re.compile(r"(?:, ?)?(?<![A-Za-z\\])or(?![A-Za-z]),?|(?<=[\d)}\]])or(?=[A-Za-z]\W)")
_AND = re.compile(r"(?:, ?)?(?<![A-Za-z\\])and(?![A-Za-z]),?")
_ORDINAL = re.compile(r"(?<=\d)(?:\^?\{?\"?|\^\{\")(?:st|nd|rd|th)\b\"?\}?")
_LOOSE = re.compile(r"\s*([^\w\s\"\\.|})])\s*|\s*([})])(?!\s[A-Za-z]{3})\s*|(?<=[\d.])\s+(?=\")")
_WRAPPED = re.compile(
    r"^(?:\$\$?(?P<dollar>[^$]*)\$\$?|\\\((?P<paren>.*)\\\)|\\\[(?P<square>.*)\\\]|\*\*(?P<bold>[^*]+)\*\*|`+(?P<code>[^`]+)`+)$",
    re.DOTALL,
)
_BOX = re.compile(r"^\\(?:boxed|fbox|framebox)\s*\{(.*)\}$", re.DOTALL)
_PLAIN_NUMBER = re.compile(r"-?\d+(?:\.\d+)?", re.ASCII)
_DEGREE_WORDS = re.compile(r"(?<![\\A-Za-z\"])degrees?(?![A-Za-z])")
_TEMPERATURE = re.compile(r"(?:°|\bdegrees?\b)[\s\"]*(?:([CF])|(C)elsius|(F)ahrenheit)\b\"?")


_LEAD = re.compile(
    r"^(?:(?:the |my )?(?:final |correct )?(?:answer|option|choice|solution(?=s? (?:is|are)))s?\b\s*(?:is\b|are\b)?\s*[:=]?"
    r"|approximately\b|about\b|roughly\b|exactly\b|only\b|just\b|a total of\b|both\b(?=.* and )|(?:the )?point\b(?=\s*\()"
    r"|(?:the |a )?ratio\b(?: of\b| is\b)?(?=\s*\d+ ?(?::|to)))\s*"
    r"(?=[\d$\\(\-+\[{√π]|[A-Za-z][).]?$)",
    re.IGNORECASE,
)
_MONEY = re.compile(
    r"(?:(-)\s*)?(?:(?:US)?\\?\$|€|£|¥|(?<![A-Za-z])USD)\s*(\d(?:\d|,(?=\d|\\!)|\{,\}|\\[!,](?=\s*\d{3}))*(?:\.\d+)?|\.\d+)(\s*(?:hundred|thousand|million|billion|trillion)\b)?"
    r"(\s*(?:per|/)\s*[a-z]{2,})?"
)
_MONEY_BEHIND = re.compile(r"(\d) ?(\\\$|[€£¥])\s*$")
_CURRENCIES = {"€": "euros", "£": "sterling", "¥": "yuan"}
_DOTTED = re.compile(r"(\d*\.\d*)\\dot\s*\{?(\d)\}?(?:(\d*)\\dot\s*\{?(\d)\}?)?")


def normalise(text: str) -> str:
    """The one compact spelling of an answer; "" when nothing is left. Text beyond MAX_ANSWER_CHARS is cut: callers refuse it first.

    The result may hold backslash commands only for functions, Greek letters, `\\frac`, `\\sqrt`, `\\binom`, `\\overline`,
    environments and commands that are not known.
    """
    text = text.strip()
    if _PLAIN_NUMBER.fullmatch(text):
        return text
    text = text[:MAX_ANSWER_CHARS]
    if not text.isascii() and has_chinese(text):
        text = from_chinese(text)
    text = unwrap(without_frame(unwrap(_plain_signs(text))))
    if text[:1].isalpha() and (lead := _LEAD.match(text)):
        text = unwrap(text[lead.end() :])
    if "\\text" in text:
        text = text.replace("\\textdollar", "\\$")
        text = _QUOTED_DOLLAR.sub(r"\\$", text)
    text = _DOLLAR_PAIR.sub(r" \1 ", text).replace("~", " ")
    if "$" in text or "USD" in text or not text.isascii():
        text = _MONEY_BEHIND.sub(lambda match: f'{match[1]}"{_CURRENCIES.get(match[2], "dollars")}"', text)
        text = _MONEY.sub(_money, text).strip("€£¥ ")
    if "\\" in text or "{" in text or "^" in text:
        text = _latex(text)
    if "'" in text or "sq." in text:
        text = _plain_words(text)
    if "°" in text or "degree" in text:
        text = _TEMPERATURE.sub(lambda match: f'"deg{match[1] or match[2] or match[3]}"', text)
    text = _DEGREE_WORDS.sub("°", text.replace("$", "").replace("**", "^"))
    return _tidy(text)


def _plain_words(text: str) -> str:
    """Without possessive endings and the stops of abbreviations."""
    text = _POSSESSIVE.sub("", text).replace("sq.", "sq")
    return re.sub(r"o'\s*clock", "oclock", text)


def _money(match: re.Match[str]) -> str:
    currency = next((name for sign, name in _CURRENCIES.items() if sign in match[0]), "dollars")
    return f'{match[1] or ""}{match[2]}"{(match[3] or "").strip()} {currency}{(match[4] or "").replace("/", " per ")}"'


def unwrap(text: str) -> str:
    """The text without its outer math delimiters, boxes, bold or code marks and closing full stop."""
    text = text.replace("...", "…") if "..." in text else text
    for _ in range(MAX_WRAPPERS):
        before = text
        text = (
            text.strip().rstrip(".,;:!").strip()
            if not text.endswith(("\\!", "\\,", "\\;", "\\:", "!"))
            else text.strip()
        )
        if match := _WRAPPED.match(text):
            text = next(group for group in match.groups() if group is not None)
        elif (match := _BOX.match(text)) and _balanced(match[1]):
            text = match[1]
        if text == before:
            break
    return text


def _balanced(text: str) -> bool:
    depth = 0
    for char in text:
        depth += (char == "{") - (char == "}")
        if depth < 0:
            return False
    return depth == 0


def _plain_signs(text: str) -> str:
    """Unicode to the plain signs; control characters become blanks, invisible format characters go."""
    if text.isascii() and text.isprintable():
        return text
    text = _RAISED.sub(lambda match: "^{" + "".join(SUPERSCRIPTS[char] for char in match[0]) + "}", text)
    text = _LOWERED.sub(lambda match: "_{" + "".join(SUBSCRIPTS[char] for char in match[0]) + "}", text)
    text = "".join(_plain_sign(char) for char in text)
    text = unicodedata.normalize("NFKC", text)
    return "".join(UNICODE.get(char, char) for char in text if unicodedata.category(char) != "Cf")


def _plain_sign(char: str) -> str:
    if char in VULGAR:
        return f" {VULGAR[char]}"
    if unicodedata.category(char) == "Cc":
        return " "
    return UNICODE.get(char, char)


def _latex(text: str) -> str:
    text = text.replace("\\left<", "⟨").replace("\\right>", "⟩")
    if "phantom" in text:
        text = _HIDDEN.sub(" ", text)
    if "in" in text or "∈" in text:
        text = _SET_OF_LETTERS.sub(lambda match: f"∈{_BLACKBOARD[match[2]]}", text)
    text = _BRACED_POINT.sub(".", _THOUSANDS_LATEX.sub("", text))
    if "\\over" in text or "\\choose" in text:
        text = _INFIX_FRACTION.sub(_fraction_of, text)
    if "\\dot" in text:
        text = _DOTTED.sub(lambda match: f"{match[1]}\\overline{{{match[2]}{match[3] or ''}{match[4] or ''}}}", text)
    text = _DEGREE.sub("°", text)
    text = _REALS.sub(lambda match: _BLACKBOARD[match[1] or match[2]], text)
    if "\\text" in text or "\\m" in text or "\\hbox" in text or "\\rm" in text or "\\emph" in text:
        text = _TEXT.sub(_quoted, text)
    text = _OPERATOR.sub(r"\\\1 ", text)
    if "color" in text or "space" in text:
        text = _DRESS.sub(" ", text)
    if "frac" in text:
        text = _SHORT_FRACTION.sub(r"\\frac{\2}{\3}", text)
        text = _HALF_SHORT_FRACTION.sub(_braced_fraction, text)
    return _COMMAND.sub(_command, text)


_BEFORE_A_UNIT = (*"0123456789)}/", '"')


def _quoted(match: re.Match[str]) -> str:
    """`\\text{ or }` as a comma between alternatives; signs as they are; other words stand in quotation marks."""
    words = _BLANK.sub(" ", match[1].replace('"', "").replace("\\", " ")).strip()
    if words.strip(" ,") in {"or", "and", "to"} or not any(char.isalnum() for char in words):
        return f" {words} "
    if words in {"min", "sec"} and match.string[: match.start()].rstrip().endswith(_BEFORE_A_UNIT):
        return f'"{words}"'
    if words in {"i", "e"} or words in FUNCTIONS or _LETTERS.fullmatch(words):
        return f" {words} "
    parts = _JOINED.split(words)
    if len(parts) > 2 and all(len(part.split()) < 3 for part in parts):
        return " ".join(f" {part} " if part in {"or", "and", ""} else f'"{part}"' for part in parts)
    return f'"{words}"'


def _fraction_of(match: re.Match[str]) -> str:
    return f"\\{'frac' if match[2] == 'over' else 'binom'}{{{match[1]}}}{{{match[3]}}}"


def _braced_fraction(match: re.Match[str]) -> str:
    if match[2] is not None:
        return f"\\frac{{{match[2]}}}"
    return f"\\frac{match[3]}{{{match[4]}}}"


def _command(match: re.Match[str]) -> str:
    name = match[1]
    if name in SPACES:
        return " "
    if name in NOTHING:
        return " " if name.isalpha() else ""
    sign = SIGNS.get(name)
    if sign is not None:
        return sign
    return f"\\{name} " if name.isalpha() else "\\\\" if name == "\\" else name


def _tidy(text: str) -> str:
    text = _BLANK.sub(" ", text)
    if "," in text and (", " in text or not any(bracket in text for bracket in "([❴⟨")):
        text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    if " " in text and _SPACED_THOUSANDS.search(text):
        text = _SPACED_THOUSANDS.sub(lambda match: match[0].replace(" ", ""), text)
    if "or" in text or "and" in text:
        text = _AND.sub("∧", _OR.sub("∨", text))
    if "<=" in text or ">=" in text:
        text = text.replace("<=", "≤").replace(">=", "≥")
    if "th" in text or "st" in text or "nd" in text or "rd" in text:
        text = _ORDINAL.sub("", text)
    text = _LOOSE.sub(lambda match: match[1] or match[2] or "", text)
    return respelled(text.strip().rstrip(".,;:").strip())
