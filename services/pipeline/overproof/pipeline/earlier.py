"""How the completions of a run were graded before it."""

from __future__ import annotations

from typing import Any

from overproof.pipeline.domain.nodes import Plan
from overproof.shared.artifacts import Artifacts
from overproof.shared.specs import GradeSpec


def earlier_grades(artifacts: Artifacts, run_id: str, plan: Plan) -> dict[str, str]:
    """Grades of the plan → the last other grades of the same completions, made before them.

    What is found when a run is first planned is kept in `runs/<id>/earlier.json`, so that every process makes the same plan
    at any time, also once the run's own grades are there.
    """
    files, path = artifacts.files, f"runs/{run_id}/earlier.json"
    if not files.exists(path):
        graded = ((node.ref, node.spec.completions) for node in plan.nodes if isinstance(node.spec, GradeSpec))
        found = ((ref, _before(artifacts, ref, completions)) for ref, completions in graded)
        files.create_json(path, {ref: before for ref, before in found if before is not None})
    kept: dict[str, Any] = files.read_json(path)
    return {str(ref): str(before) for ref, before in kept.items()}


def _before(artifacts: Artifacts, grades: str, completions: str) -> str | None:
    """Grades made after these do not count: they are no earlier ones."""
    refs = [f"{one.stage}/{one.key}" for one in artifacts.grades_of(completions)]
    others = refs[: refs.index(grades)] if grades in refs else refs
    return others[-1] if others else None
