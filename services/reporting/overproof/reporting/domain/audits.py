"""What the report says of verdicts that Math-Verify would have given otherwise."""

from __future__ import annotations

from overproof.reporting.domain import wording
from overproof.reporting.domain.material import Material, Row


def counts(material: Material) -> Row | None:
    """`audited`, `disagree`, `silent`; None when nobody asked for an audit."""
    return None if material.audit is None else material.audit.counts


def answer(material: Material) -> str:
    """One sentence; empty without an audit."""
    found = counts(material)
    if found is None:
        return ""
    return (
        f"Math-Verify was asked for its opinion of {wording.plural(found['audited'], 'verdict')} "
        f"and differs in {found['disagree']:,} (audit.csv; it had none of {found['silent']:,}); no verdict was changed."
    )
