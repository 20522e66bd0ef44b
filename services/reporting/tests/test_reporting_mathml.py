"""Formulas in model text: set where they can be, harmless in every case."""

from __future__ import annotations

import time
from html.parser import HTMLParser

import pytest

from overproof.reporting.adapters import mathml
from overproof.reporting.adapters.mathml import Span, Typesetter, clean, convert, spans

CUTS = [
    ("no formula at all", [Span("no formula at all")]),
    ("a $x$ b", [Span("a "), Span("$x$", "x"), Span(" b")]),
    ("$$x$$", [Span("$$x$$", "x", is_block=True)]),
    (r"\[x\] and \(y\)", [Span(r"\[x\]", "x", is_block=True), Span(" and "), Span(r"\(y\)", "y")]),
    (r"so \boxed{\frac{1}{2}}.", [Span("so "), Span(r"\boxed{\frac{1}{2}}", r"\boxed{\frac{1}{2}}"), Span(".")]),
    ("it costs $5 and $6", [Span("it costs $5 and $6")]),
    (r"price \$5, then $x$", [Span(r"price \$5, then "), Span("$x$", "x")]),
    ("open $x", [Span("open $x")]),
    ("", []),
]


@pytest.mark.parametrize(("text", "expected"), CUTS, ids=[text or "empty" for text, _ in CUTS])
def test_texts_are_cut_into_prose_and_formulas(text: str, expected: list[Span]) -> None:
    found = spans(text)
    assert found == expected
    assert "".join(span.text for span in found) == text


def test_formulas_become_mathml() -> None:
    html = Typesetter([r"Half: $\frac{1}{2}$"])(r"Half: $\frac{1}{2}$")
    assert "<mfrac><mrow><mn>1</mn></mrow><mrow><mn>2</mn></mrow></mfrac>" in html
    assert html.startswith("Half: <math")


def test_a_displayed_formula_is_a_block() -> None:
    assert 'display="block"' in Typesetter(["$$x$$"])("$$x$$")


HOSTILE = [
    r"$\text{<img src=x onerror=alert(1)>}$",
    r"$\text{</mtext><script>alert(1)</script><mtext>}$",
    r"$\href{javascript:alert(1)}{x}$",
    r"$\style{background:url(http://x)}{x}$",
    r"$\class{card}{x}$",
    r"$\color{red' onmouseover='alert(1)}{y}$",
    r"$\text{<!DOCTYPE a [<!ENTITY b 'c'>]>&b;}$",
    r"$\text{<?xml-stylesheet href='x'?>}$",
    "$" + "{" * 299 + "x" + "}" * 299 + "$",
    "<script>alert(1)</script>",
    "$\\text{&lt;script&gt;}$",
]


class Tags(HTMLParser):
    """Every element and attribute that a parser finds."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.names: set[str] = set()
        self.attributes: set[str] = set()
        self.others: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.attributes |= {name for name, _ in attrs}

    def handle_decl(self, decl: str) -> None:
        self.others.append(decl)

    def handle_pi(self, data: str) -> None:
        self.others.append(data)


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_formulas_leave_nothing_behind(text: str) -> None:
    tags = Tags(str(Typesetter([text])(text)))
    assert tags.names <= mathml.ELEMENTS | {"code"}
    assert tags.attributes <= set(mathml.ATTRIBUTES)
    assert not tags.others


@pytest.mark.parametrize(
    "xml",
    [
        "<math><script/></math>",
        "<math><mi>x</mi>",
        '<math xmlns="http://www.w3.org/1999/xhtml"><mi>x</mi></math>',
        "<math><annotation-xml><mi>x</mi></annotation-xml></math>",
        "<math>" + "<mrow>" * 100 + "</mrow>" * 100 + "</math>",
        "<math><mi>" + "x" * mathml.MAX_MATHML_CHARS + "</mi></math>",
    ],
    ids=["element", "unclosed", "namespace", "annotation", "depth", "length"],
)
def test_unknown_markup_is_refused_whole(xml: str) -> None:
    assert clean(xml) is None


def test_unknown_attributes_are_dropped() -> None:
    assert clean('<math display="inline" href="x" onclick="y"><mi mathvariant="bold">x</mi></math>') == (
        '<math display="inline"><mi mathvariant="bold">x</mi></math>'
    )


def test_a_converter_that_hangs_costs_the_budget_and_no_more(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    sleeper = tmp_path / "python"
    sleeper.write_text("#!/bin/sh\necho '\"<math><mi>a</mi></math>\"'\nprintf '\"<ma'\nexec sleep 60\n")
    sleeper.chmod(0o755)
    monkeypatch.setattr(mathml.sys, "executable", str(sleeper))
    started = time.monotonic()
    assert convert(["a", "b", "c"], seconds=0.5) == {"a": "<math><mi>a</mi></math>"}
    assert time.monotonic() - started < 10


def test_long_text_with_open_delimiters_is_cut_quickly() -> None:
    started = time.process_time()
    for opener in (r"\(", r"\[", "$$", "$", r"\boxed{"):
        spans(opener * 2000)
    assert time.process_time() - started < 5
