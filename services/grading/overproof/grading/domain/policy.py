"""What may be asked of the comparison beyond its default policy."""

from __future__ import annotations

from typing import NamedTuple


class Policy(NamedTuple):
    """The defaults are the written policy; `docs/grading.md` says it form by form."""

    strict: bool = False
    """The two answers must also be written as the same kind of thing: no `x=5` for 5, `10%` for 0.1, `5 cm` for 5, `3:4` for 3/4."""
    order_matters: bool = False
    """`1, 2` is not `2, 1`; sets in braces stay sets."""
    decimal_tolerance: float = 0.0
    """Largest relative difference at which a number written as a decimal is accepted; 0: it must be exact."""


DEFAULT = Policy()
