"""LaTeX in text → MathML, where that works; the text of a model is hostile and the converter is not a wall.

The converter passes markup in `\\text{...}` through unescaped and takes attributes such as `href`, so what it returns is
read as XML and rebuilt from known elements and attributes only. It runs in a child process under limits of time and
memory: whatever it has not converted in time is shown as the LaTeX it is.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from typing import NamedTuple
from xml.etree import ElementTree

from markupsafe import Markup, escape

MAX_FORMULA_CHARS = 600
MAX_MATHML_CHARS = 20_000
BUDGET_SECONDS = 10.0
"""For all formulas of a page; some 5,000 a second are usual."""
MAX_DEPTH = 60

MATHML = "http://www.w3.org/1998/Math/MathML"
ELEMENTS = frozenset({
    "math", "mrow", "mi", "mn", "mo", "mtext", "mspace", "mfrac", "msqrt", "mroot", "msub", "msup", "msubsup", "munder", "mover",
    "munderover", "mmultiscripts", "mprescripts", "none", "mtable", "mtr", "mtd", "mstyle", "mpadded", "mphantom", "menclose",
    "merror",
})  # fmt: skip
ATTRIBUTES = {
    "display": re.compile(r"inline|block"),
    "mathvariant": re.compile(r"[a-z-]{1,30}"),
    "stretchy": re.compile(r"true|false"),
    "fence": re.compile(r"true|false"),
    "separator": re.compile(r"true|false"),
    "form": re.compile(r"prefix|infix|postfix"),
    "accent": re.compile(r"true|false"),
    "movablelimits": re.compile(r"true|false"),
    "displaystyle": re.compile(r"true|false"),
    "scriptlevel": re.compile(r"[+-]?\d"),
    "linethickness": re.compile(r"\d{1,2}(\.\d+)?(px|pt|em)?"),
    "notation": re.compile(r"[a-z ]{1,40}"),
    "columnalign": re.compile(r"(left|center|right| ){1,20}"),
    "width": re.compile(r"-?\d{1,2}(\.\d+)?(em|ex)"),
    "minsize": re.compile(r"\d(\.\d+)?(em)?"),
    "maxsize": re.compile(r"\d(\.\d+)?(em)?"),
}

FORMULA = re.compile(
    r"\$\$(?P<a>.{1,600}?)\$\$|\\\[(?P<b>.{1,600}?)\\\]|\\\((?P<c>.{1,600}?)\\\)|\$(?!\s)(?P<d>[^$]{1,600}?)(?<![\s\\])\$(?!\d)"
    r"|(?P<e>\\boxed\{[^{}]{0,200}(?:\{[^{}]{0,200}\}[^{}]{0,200}){0,8}\})",
    re.DOTALL,
)


class Span(NamedTuple):
    """A piece of a text."""

    text: str
    """As it stands, with its delimiters."""
    formula: str | None = None
    """The LaTeX between the delimiters."""
    is_block: bool = False


def spans(text: str) -> list[Span]:
    """The text cut into prose and formulas ($..$, $$..$$, \\(..\\), \\[..\\], a bare \\boxed{..}); joined again they are the text."""
    found, position = [], 0
    for match in FORMULA.finditer(text):
        if match.start() > position:
            found.append(Span(text[position : match.start()]))
        group = str(match.lastgroup)
        found.append(Span(match[0], match[group], is_block=group in "ab"))
        position = match.end()
    if position < len(text):
        found.append(Span(text[position:]))
    return found


def clean(xml: str) -> str | None:
    """The MathML rebuilt from known elements and attributes; None when it holds anything else or is not well-formed."""
    if len(xml) > MAX_MATHML_CHARS or "<!" in xml or "<?" in xml:
        return None
    try:
        root = ElementTree.fromstring(xml)  # noqa: S314 - no DOCTYPE, so no entities
    except ElementTree.ParseError:
        return None
    return _rebuilt(root, 0)


def _rebuilt(element: ElementTree.Element, depth: int) -> str | None:
    name = element.tag.removeprefix(f"{{{MATHML}}}")
    if name not in ELEMENTS or depth > MAX_DEPTH:
        return None
    kept = "".join(
        f' {key}="{value}"'
        for key, value in element.attrib.items()
        if key in ATTRIBUTES and ATTRIBUTES[key].fullmatch(value)
    )
    content = [str(escape(element.text or ""))]
    for child in element:
        inner = _rebuilt(child, depth + 1)
        if inner is None:
            return None
        content += [inner, str(escape(child.tail or ""))]
    return f"<{name}{kept}>{''.join(content)}</{name}>"


def convert(formulas: Iterable[str], seconds: float = BUDGET_SECONDS) -> dict[str, str]:
    """MathML by formula, for those that converted within the budget and came out clean."""
    wanted = list(dict.fromkeys(formulas))
    if not wanted:
        return {}
    child = subprocess.Popen(
        [sys.executable, "-m", "overproof.reporting.adapters.mathml_child"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={"PATH": os.environ.get("PATH", ""), "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    question = json.dumps(wanted).encode()
    try:
        answer = child.communicate(question, timeout=seconds)[0]
    except subprocess.TimeoutExpired:
        child.kill()
        answer = child.communicate()[0]
    return _whole_lines(wanted, answer)


def _whole_lines(wanted: list[str], answer: bytes) -> dict[str, str]:
    """What the child had finished; its last line may be half."""
    lines = answer.split(b"\n")[:-1]
    results = ((formula, json.loads(line)) for formula, line in zip(wanted, lines, strict=False))
    cleaned = ((formula, clean(xml)) for formula, xml in results if xml is not None)
    return {formula: xml for formula, xml in cleaned if xml is not None}


class Typesetter:
    """Text with its formulas set; everything that is not clean MathML is escaped."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._mathml = convert(span.formula for text in texts for span in spans(text) if span.formula is not None)

    def __call__(self, text: str) -> Markup:
        """HTML: prose escaped, formulas as MathML, the rest as <code>."""
        return Markup("").join(self._set(span) for span in spans(text))

    def _set(self, span: Span) -> Markup:
        if span.formula is None:
            return escape(span.text)
        mathml = self._mathml.get(span.formula)
        if mathml is None:
            return Markup("<code>{}</code>").format(span.text)
        # only `clean` makes these strings, from elements and attributes of its own lists
        return Markup(mathml.replace('display="inline"', 'display="block"', 1) if span.is_block else mathml)  # noqa: S704
