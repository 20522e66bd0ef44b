"""Reads everything that a report is made from."""

from __future__ import annotations

import hashlib
import itertools
import json
from typing import Any

from overproof.reporting import sampled
from overproof.reporting.domain.material import ArmFacts, Audit, Changes, Lineage, Material, Row
from overproof.reporting.domain.spending import spending
from overproof.reporting.domain.summary import finite
from overproof.shared.errors import ArtifactMissing
from overproof.shared.recipe import Recipe
from overproof.shared.records import Manifest
from overproof.shared.specs import Arm, ReportSpec
from overproof.shared.tables import AUDIT, CHANGES, COMPARISON, GOLD_REVIEW, rows_of
from overproof.shared.work import Work

METRICS = "metrics.jsonl"
CARD = "checkpoint/README.md"
CHANGES_SHOWN = 1_000
"""Rows of changed or doubted verdicts in the report's data; all of them are in the artifact."""


def material(work: Work[ReportSpec]) -> Material:
    """The comparison, the notes of every selection and training, and where it all came from."""
    spec = work.spec
    rows = [row for batch in work.read(spec.compare, COMPARISON, part=0) for row in batch.to_pylist()]
    recipe = Recipe.model_validate_json(spec.recipe_json)
    completions = {*spec.sampled, *(one.completions for one in spec.comparison.evaluations)}
    return Material(
        spec=spec,
        recipe=recipe,
        rows=finite(rows),
        facts=json.loads(file_of(work, spec.compare, "comparison.json")),
        examples=json.loads(file_of(work, spec.compare, "won_lost.json")),
        arms=tuple(_arm(work, arm) for arm in spec.arms),
        lineage=tuple(_lineage(work, what, ref) for what, ref in sources(spec)),
        n_sampled=sum(_manifest(work, ref).rows for ref in spec.sampled),
        review=_review(work),
        changes=_changes(work),
        audit=_audit(work),
        rounds=tuple(sampled.rounds(work, recipe.sampling)),
        spending=spending(recipe, [note for ref in completions for note in _manifest(work, ref).notes]),
    )


def _changes(work: Work[ReportSpec]) -> Changes | None:
    """How verdicts changed against an earlier grading; the first rows only, the artifact has them all."""
    ref = work.spec.changes
    if ref is None:
        return None
    rows = itertools.islice(rows_of(work.read(ref, CHANGES)), CHANGES_SHOWN)
    return Changes(rows=list(rows), n_rows=_manifest(work, ref).rows, **_notes(work, ref))


def _audit(work: Work[ReportSpec]) -> Audit | None:
    """The first rows of the audit, and its counts."""
    ref = work.spec.audit
    if ref is None:
        return None
    return Audit(rows=list(itertools.islice(rows_of(work.read(ref, AUDIT)), CHANGES_SHOWN)), counts=_notes(work, ref))


def _review(work: Work[ReportSpec]) -> list[Row] | None:
    """Rows of GOLD_REVIEW; None when the run had too few completions per problem to vote."""
    ref = work.spec.review
    return None if ref is None else list(rows_of(work.read(ref, GOLD_REVIEW)))


def file_of(work: Work[Any], ref: str, name: str) -> bytes:
    """One file of an artifact, after a look at its SHA-256. Raises ArtifactMissing when it has no such file."""
    for part in work.artifacts.parts(ref):
        if part.name == name:
            work.artifacts.verify(ref, part)
            return work.artifacts.files.read(f"{work.artifacts.folder(ref)}/{name}")
    raise ArtifactMissing(f"{ref} has no file {name}.", "It will be made again.")


def sources(spec: ReportSpec) -> list[tuple[str, str]]:
    """(what it is, reference) of every artifact behind the report, each once."""
    found: list[tuple[str, str | None]] = [
        ("training problems", spec.train_problems),
        ("test problems", spec.comparison.problems),
    ]
    found += [(f"training completions, pass {i + 1}", ref) for i, ref in enumerate(spec.sampled)]
    found += [(f"their grades, pass {i + 1}", ref) for i, ref in enumerate(spec.graded)]
    for arm in spec.arms:
        found += [(f"{arm.label}: selected rows", arm.selected), (f"{arm.label}: checkpoint", arm.trained)]
    for one in spec.comparison.evaluations:
        found += [(f"{one.label}: test completions", one.completions), (f"{one.label}: their grades", one.grades)]
    found += [("gold answers to review", spec.review), ("changed verdicts", spec.changes)]
    found += [("audit of verdicts", spec.audit), ("comparison", spec.compare)]
    return list({ref: (what, ref) for what, ref in found if ref is not None}.values())


def _arm(work: Work[ReportSpec], arm: Arm) -> ArmFacts:
    if arm.trained is None:
        return ArmFacts(arm, _notes(work, arm.selected), {}, ())
    metrics, card = _metrics(work, arm.trained), _card(work, arm.trained)
    return ArmFacts(arm, _notes(work, arm.selected), _notes(work, arm.trained), metrics, card)


def _card(work: Work[ReportSpec], trained: str) -> str | None:
    if CARD not in {part.name for part in work.artifacts.parts(trained)}:
        return None
    return file_of(work, trained, CARD).decode()


def _metrics(work: Work[ReportSpec], trained: str) -> tuple[dict[str, Any], ...]:
    if METRICS not in {part.name for part in work.artifacts.parts(trained)}:
        return ()
    return tuple(json.loads(line) for line in file_of(work, trained, METRICS).splitlines() if line.strip())


def _notes(work: Work[ReportSpec], ref: str) -> dict[str, Any]:
    notes = _manifest(work, ref).notes
    return notes[0] if notes else {}


def _manifest(work: Work[ReportSpec], ref: str) -> Manifest:
    manifest = work.artifacts.manifest(ref)
    if manifest is None:
        raise ArtifactMissing(f"{ref} is not complete.", "It will be made again.")
    return manifest


def _lineage(work: Work[ReportSpec], what: str, ref: str) -> Lineage:
    manifest = _manifest(work, ref)
    together = hashlib.sha256("".join(part.sha256 for part in manifest.parts).encode()).hexdigest()
    rows = manifest.rows if any(part.rows is not None for part in manifest.parts) else None
    return Lineage(ref, what, rows, manifest.bytes, together, manifest.version)
