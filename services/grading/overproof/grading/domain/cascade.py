"""The fast path: from the cheapest test to the dearest, the first certain one decides; nothing here starts a process.

exact       the same characters
normalised  the same after normalisation
rational    both are rational numbers: compared as Fractions
structural  lists, sets, tuples, intervals, words, ...: compared member by member
numeric     two expressions: 60 digits at seeded points
undecided   the grammar does not cover one of the two: the slow path has the word
"""

from __future__ import annotations

import re
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import Any, NamedTuple

from overproof.grading.domain.comparison import same_form
from overproof.grading.domain.fields import begin
from overproof.grading.domain.forms import Form, Kind
from overproof.grading.domain.limits import is_hopeless
from overproof.grading.domain.naming import is_named_call
from overproof.grading.domain.normalise import MAX_ANSWER_CHARS, normalise
from overproof.grading.domain.numeric import is_beyond, real_value
from overproof.grading.domain.options import in_order, is_near, shape
from overproof.grading.domain.policy import DEFAULT, Policy
from overproof.grading.domain.rational import rational_of
from overproof.grading.domain.scalars import same_scalar
from overproof.grading.domain.slow import are_statements, is_one_expression
from overproof.grading.domain.structure import MAX_CACHED_CHARS, read
from overproof.grading.domain.tree import Exhausted, Node, TooLarge, walk

MAX_WORDS_OF_A_GOLD = 15
"""The wordiest gold answer of MATH has four words; an answer of twenty is a proof, which equality cannot judge."""


class Stage(StrEnum):
    """Which test decided."""

    EXACT = "exact"
    NORMALISED = "normalised"
    RATIONAL = "rational"
    STRUCTURAL = "structural"
    NUMERIC = "numeric"
    LIMIT = "limit"
    UNDECIDED = "undecided"


class Decision(NamedTuple):
    """`equal` is None with the stage `undecided`, and with `limit` where both are beyond what can be compared.

    `reason` is empty when there is nothing to say.
    """

    equal: bool | None
    stage: Stage
    reason: str = ""


class Reading(NamedTuple):
    """Whether a gold answer can be judged against: True, False with a reason, or None (only the slow path can tell)."""

    readable: bool | None
    reason: str = ""


def decide(answer: str, gold: str, policy: Policy = DEFAULT) -> Decision:
    """Whether two answers are the same under a policy. Symmetric up to the wording of the reason; pure."""
    if len(answer) > MAX_ANSWER_CHARS or len(gold) > MAX_ANSWER_CHARS:
        return Decision(False, Stage.LIMIT, f"longer than {MAX_ANSWER_CHARS} characters")
    if answer.strip() == gold.strip():
        return Decision(True, Stage.EXACT)
    if _REVERSING.search(answer) or _REVERSING.search(gold):
        return Decision(False, Stage.LIMIT, "it holds signs that turn the direction of writing")
    if len(answer) + len(gold) > MAX_CACHED_CHARS:
        return _decide_normalised(normalise(answer), _normalise_cached(gold), policy)
    decision = _decide_cached(_normalise_cached(answer), _normalise_cached(gold), policy)
    if decision.equal is False and (pair := _as_lists_of_two(answer, gold)) is not None:
        return _decide_cached(_normalise_cached(pair[0]), _normalise_cached(pair[1]), policy)
    return decision


_GROUPED = re.compile(r"\s*\d{1,3},\d{3}\s*", re.ASCII)
_LISTED = re.compile(r"(?:\d|\^\\circ|°)\$?(?:, ?\\? ?|;|\s(?:and|or)\s)\s*\$?\d")


def _as_lists_of_two(answer: str, gold: str) -> tuple[str, str] | None:
    """Both texts with `30,150` as two numbers, where the other is a list that cannot be read otherwise, `30°, 150°`."""
    if _GROUPED.fullmatch(answer) and not _GROUPED.fullmatch(gold) and _LISTED.search(gold):
        return answer.replace(",", ", "), gold
    if _GROUPED.fullmatch(gold) and not _GROUPED.fullmatch(answer) and _LISTED.search(answer):
        return answer, gold.replace(",", ", ")
    return None


_REVERSING = re.compile("[\u202a-\u202e\u2066-\u2069]")
"""With these `\u202e05` is shown as 50: what a person sees is not what is compared."""


_normalise_cached = lru_cache(maxsize=10_000)(normalise)


def _decide_normalised(answer: str, gold: str, policy: Policy) -> Decision:
    if not answer or not gold:
        return Decision(
            False, Stage.NORMALISED, "nothing is left of the answer" if not answer else "nothing is left of the gold"
        )
    if answer == gold:
        return Decision(True, Stage.NORMALISED)
    left, right = rational_of(answer), rational_of(gold)
    if left is not None and right is not None and (left == right or not policy.decimal_tolerance):
        return Decision(left == right, Stage.RATIONAL, "" if left == right else _rounding(answer, gold))
    if "," in answer or "," in gold:
        left, right = _with_decimal_comma(answer, right), _with_decimal_comma(gold, left)
        if left is not None and left == right:
            return Decision(True, Stage.RATIONAL)
    return _decide_read(answer, gold, policy)


_DECIMAL_COMMA = re.compile(r"-?(?:\d+,\d{2}|0,\d+|\d+,\d{4,})", re.ASCII)
"""With one digit behind the comma, `2,6`, it may as well be a list."""


def _with_decimal_comma(text: str, other: Fraction | None) -> Fraction | None:
    """`1,22` as 1.22 where the other answer is a decimal or fraction; thousands have three digits behind the comma."""
    if "," not in text:
        return rational_of(text)
    is_decimal = other is not None and other.denominator > 1 and _DECIMAL_COMMA.fullmatch(text)
    return rational_of(text.replace(",", ".")) if is_decimal else None


_decide_cached = lru_cache(maxsize=20_000)(_decide_normalised)


def _decide_read(answer: str, gold: str, policy: Policy) -> Decision:
    begin()
    try:
        return _decide_within_effort(answer, gold, policy)
    except Exhausted as error:
        return Decision(None, Stage.LIMIT, str(error))


def _decide_within_effort(answer: str, gold: str, policy: Policy) -> Decision:
    one, other = _try_read(answer), _try_read(gold)
    if one is None or other is None:
        return _decide_limit(one, other, answer, gold)
    if policy.order_matters:
        one, other = in_order(one), in_order(other)
    if policy.strict and shape(one) != shape(other):
        return Decision(False, Stage.STRUCTURAL, "strict: not written as the same kind of thing")
    try:
        decision = _decide_forms(one, other, answer, gold)
    except TooLarge as error:
        if _is_beyond(one) != _is_beyond(other):
            return Decision(False, Stage.LIMIT, str(error))
        hopeless = is_hopeless(one) or is_hopeless(other)
        return Decision(None, Stage.LIMIT if hopeless else Stage.UNDECIDED, str(error))
    if decision.equal is False and _may_be_near(answer, gold, policy) and is_near(one, other, policy.decimal_tolerance):
        return Decision(True, Stage.NUMERIC, "within the tolerance for decimals")
    return decision


def _may_be_near(answer: str, gold: str, policy: Policy) -> bool:
    return bool(policy.decimal_tolerance) and ("." in answer or "." in gold)


def _is_beyond(form: Form) -> bool:
    return (form.node is not None and is_beyond(form.node)) or any(_is_beyond(item) for item in form.items)


def _try_read(text: str) -> Form | None:
    try:
        return read(text)
    except TooLarge:
        return None


def _decide_limit(one: Form | None, other: Form | None, answer: str, gold: str) -> Decision:
    """A number beyond the limits is not one within them; two such numbers are not compared here."""
    if one is None and other is None:
        small = is_one_expression(answer) and is_one_expression(gold)
        return Decision(None, Stage.UNDECIDED if small else Stage.LIMIT, "both numbers are beyond the limits")
    return Decision(False, Stage.LIMIT, "a number beyond the limits")


def _decide_forms(one: Form, other: Form, answer: str, gold: str) -> Decision:
    if one.kind is Kind.SCALAR and other.kind is Kind.SCALAR:
        scalars = same_scalar(one, other)
        if scalars.equal is not None:
            return Decision(scalars.equal, Stage(scalars.stage), "" if scalars.equal else _rounding(answer, gold))
        if _holds_infinity(one) or _holds_infinity(other):
            return Decision(False, Stage.STRUCTURAL, "arithmetic with an infinity has no value")
        return Decision(None, Stage.UNDECIDED, "no value at any point")
    equal = same_form(one, other)
    if not equal and _wording(answer) == _wording(gold) is not None:
        return Decision(True, Stage.STRUCTURAL)
    if equal is None:
        if not (is_one_expression(answer) and is_one_expression(gold)) or are_statements(answer, gold):
            return Decision(False, Stage.STRUCTURAL, f"{one.kind} against {other.kind}: not shown to be the same")
        return Decision(None, Stage.UNDECIDED, f"{one.kind} against {other.kind}")
    return Decision(equal, Stage.STRUCTURAL, "" if equal else f"{one.kind} against {other.kind}")


def _holds_infinity(form: Form) -> bool:
    return form.node is not None and any(part.op == "const" and part.name == "∞" for part in walk(form.node))


_PLAIN_WORDS = re.compile(r"(?=.*[^\W\d_]{3})[\w\s]+")


def _wording(text: str) -> str | None:
    """Words and numbers in their order, however quotation marks and commas part them; None for text with other signs."""
    plain = " ".join(text.replace('"', " ").replace(",", " ").replace("∧", " and ").split()).casefold()
    return plain if _PLAIN_WORDS.fullmatch(plain) else None


def _rounding(answer: str, gold: str) -> str:
    """The named case of a wrong decimal: it is the other answer, rounded."""
    for rounded, full in ((answer, gold), (gold, answer)):
        whole, _, decimals = rounded.partition(".")
        if not decimals.isdigit() or not (whole.removeprefix("-").isdigit() or whole in {"", "-"}):
            continue
        form = _try_read(full)
        value = real_value(form.node) if form is not None and form.node is not None else None
        if value is not None and abs(float(value) - float(rounded)) <= 0.5000001 * 10.0 ** -len(decimals):
            return "the decimal is the other answer, rounded"
    return ""


@lru_cache(maxsize=20_000)
def reading(gold: str) -> Reading:
    """Whether the fast path can read a gold answer; None where only the slow path can tell."""
    if len(gold) > MAX_ANSWER_CHARS:
        return Reading(False, f"it has {len(gold)} characters, more than {MAX_ANSWER_CHARS}")
    text = _normalise_cached(gold)
    if not text:
        return Reading(False, "it is empty")
    if text.count("{") != text.count("}"):
        return Reading(False, "its braces do not match")
    begin()
    try:
        form = _try_read(text)
    except Exhausted as error:
        return Reading(False, f"it asks for {error}")
    if form is None:
        return Reading(
            None if is_one_expression(text) else False, "it is beyond the limits of digits, signs or nesting"
        )
    if form.kind is Kind.WORDS and len(form.text.split()) > MAX_WORDS_OF_A_GOLD:
        return Reading(False, f"it is prose of {len(form.text.split())} words, not an answer")
    if not _has_opaque(form):
        return Reading(True)
    if not is_one_expression(text):
        return Reading(False, "it is neither an answer of the grammar nor one expression")
    return Reading(None, "the grammar does not cover it")


def _has_opaque(form: Form) -> bool:
    if form.kind is Kind.RELATION and is_named_call(form.items[0]):
        return any(_has_opaque(item) for item in form.items[1:])
    return form.kind is Kind.OPAQUE or any(_has_opaque(item) for item in form.items)


def trees_of(answer: str, gold: str) -> list[list[Any]] | None:
    """Both answers as trees of plain lists `[op, value, [arguments]]` for another process; None unless both are single values."""
    forms = [_try_read(normalise(text)) for text in (answer, gold)]
    nodes = [form.node for form in forms if form is not None and form.kind is Kind.SCALAR and form.node is not None]
    return [_as_lists(node) for node in nodes] if len(nodes) == 2 else None


def _as_lists(node: Node) -> list[Any]:
    value = [str(node.value.numerator), str(node.value.denominator)] if isinstance(node.value, Fraction) else node.value
    return [node.op, value, [_as_lists(arg) for arg in node.args]]
