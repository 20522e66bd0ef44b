"""Values with names: `x=1, y=2`, `AB=4, CD=5`, `x_1=3`; which left sides are names, and in which order names stand."""

from __future__ import annotations

import re
from collections.abc import Sequence

from overproof.grading.domain.forms import Form, Kind

_SUBSCRIPT = re.compile(r"_\{?(\d+)\}?$")
_NAMED_CALL = re.compile(r"\\?[A-Za-z]+ ?(?:_(?:\w|\{[^{}]*\}))?(?:\^(?:-?\w|\{-?\w+\}))?'*[(\[].*[)\]]$", re.DOTALL)


def is_name(form: Form) -> bool:
    """Whether a form can name a value in a list of values with names: a symbol, words, the letters of a segment."""
    return form.kind is Kind.WORDS or (form.node is not None and form.node.op == "sym")


def is_named_call(form: Form) -> bool:
    """`f^{-1}(x)`, `d(P,Q)`, `P(X=2)`: not readable as a value, yet clear as a name."""
    return form.kind is Kind.OPAQUE and _NAMED_CALL.match(form.text) is not None


def name_of(form: Form) -> str:
    """The name itself."""
    return form.node.name if form.node is not None else f'"{form.text}"'


def names_of(items: Sequence[Form]) -> list[str]:
    """The names on the left sides of relations."""
    return [name_of(item.items[0]) for item in items]


def assigned(items: Sequence[Form]) -> Form:
    """Values with different names as one form, in the written order."""
    return Form(Kind.ASSIGNED, ",", tuple(items))


def by_name(form: Form) -> dict[str, Form]:
    """Of an assigned form, or of `(x,y)=(1,2)`, the values by their names; {} when it is neither."""
    if form.kind is Kind.ASSIGNED:
        return {name_of(item.items[0]): item.items[1] for item in form.items}
    if form.kind is Kind.RELATION and form.text == "=" and all(item.kind is Kind.TUPLE for item in form.items):
        head, values = form.items
        if head.text == "()" and len(head.items) == len(values.items) and all(is_name(item) for item in head.items):
            return dict(zip(map(name_of, head.items), values.items, strict=True))
    return {}


def in_alphabet(values: dict[str, Form]) -> list[Form]:
    """The values in the order of their names: `x_2` before `x_10`; segments and words stay as they were written."""
    if any(name.startswith('"') for name in values):
        return list(values.values())
    return [values[name] for name in sorted(values, key=_sort_key)]


def _sort_key(name: str) -> tuple[str, int]:
    match = _SUBSCRIPT.search(name)
    return (name[: match.start()], int(match[1])) if match else (name, 0)


def are_roots(names: Sequence[str]) -> bool:
    """`x_1` to `x_n`: numbered only to tell the roots of one equation apart."""
    return sorted(names) == [f"x_{number}" for number in range(1, len(names) + 1)]
