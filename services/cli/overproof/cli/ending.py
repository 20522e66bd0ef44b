"""Submit, follow, and the words at the end: results, where the report is, and the next command."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

from overproof.cli import changes
from overproof.cli.errors import CliError
from overproof.cli.progress import clock, spending
from overproof.cli.render import renderer_for
from overproof.cli.session import Session
from overproof.cli.views import RunView, run_view
from overproof.cli.watch import watch

EXIT_INTERRUPTED = 130


def submit(session: Session, recipe: dict[str, Any], key: str | None = None) -> str:
    """Id of the run; the same key gives the same run."""
    answer = session.gateway.submit(recipe, key=key or secrets.token_hex(16))
    for warning in answer.get("warnings") or ():
        session.output.text(f"! {warning}")
    return str(answer["id"])


def submit_and_follow(
    session: Session, recipe: dict[str, Any], *, detach: bool, key: str | None = None
) -> RunView | None:
    """Submit, say how to come back, watch to the end. None when detached."""
    run_id = submit(session, recipe, key)
    session.output.text(f"▸ run {run_id}")
    if detach:
        session.output.data({"type": "submitted", "run_id": run_id})
        session.output.next(f"overproof watch {run_id}")
        return None
    return follow(session, run_id)


def follow(session: Session, run_id: str) -> RunView:
    """Watch to the end. Raises Interrupted on Ctrl-C: the run goes on without us."""
    try:
        return watch(session.gateway, run_id, renderer_for(session.output), session.pause)
    except KeyboardInterrupt:
        raise Interrupted(run_id) from None


class Interrupted(CliError):
    """Ctrl-C while watching."""

    status = EXIT_INTERRUPTED

    def __init__(self, run_id: str) -> None:
        super().__init__(
            f"Stopped watching; run {run_id} goes on.", f"overproof watch {run_id}   or   overproof cancel {run_id}"
        )
        self.run_id = run_id


def conclude(
    session: Session, run: RunView, report_folder: Path | None = None, again: tuple[str, ...] | None = None
) -> int:
    """Say how it ended and what to type next; the exit status is 0 only for a run that succeeded.

    With `report_folder` the page is saved there, for the time when no gateway serves it any more; `again` is what to type
    instead of `overproof resume` then.
    """
    if run.state == "succeeded":
        return _succeeded(session, run, report_folder)
    session.output.data({"type": "end", "run_id": run.run_id, "state": run.state, "error": run.error})
    if run.error or run.state == "failed":
        _failed(session, run)
    else:
        session.output.text(f"run {run.run_id} is {run.state}")
    session.output.next(*(again or _again(run)))
    return 1


def _again(run: RunView) -> tuple[str, ...]:
    resume = f"overproof resume {run.run_id}"
    if run.state == "paused" and run.error:
        return (f"{resume} --budget USD",)
    return (resume, f"overproof run --resume {run.run_id} --set field=value") if run.state == "failed" else (resume,)


def _succeeded(session: Session, run: RunView, report_folder: Path | None) -> int:
    output = session.output
    if "report" not in run.artifacts:
        end = {"type": "end", "run_id": run.run_id, "state": run.state, "artifacts": run.artifacts}
        output.data(end | {"changes": changes.verdicts(run)})
        output.text(f"✓ {run.run_id} succeeded   {_took(run)}")
        changes.show(output, run)
        output.next(*(f"overproof cp {run.run_id}:{name} ." for name in _results(run)))
        return 0
    report = session.gateway.report(run.run_id)
    where = _page(session, run, report_folder)
    output.data({"type": "end", "run_id": run.run_id, "state": run.state, "report": where, "results": report})
    output.text()
    output.text(str(report.get("table_text") or "").rstrip("\n"))
    if money := spending(run):
        output.text(f" {money}")
    if run.busy_share is not None:
        output.text(f" models busy {run.busy_share:.0%} of the sampling stages' wall time")
    output.text(f" ▸ {where}")
    changes.show(output, run)
    return 0


def _results(run: RunView) -> list[str]:
    """What the run was asked for: not the problems it read."""
    return [name for name in run.artifacts if not name.startswith("problems/")] or list(run.artifacts)


def _page(session: Session, run: RunView, folder: Path | None) -> str:
    if folder is None:
        return session.gateway.report_url(run.run_id)
    return str(save_report(session, run.run_id, folder / f"{run.run_id}.html", "html"))


def save_report(session: Session, run_id: str, target: Path, form: str) -> Path:
    """Download one form of the report; returns the file."""
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CliError(f"{target.parent} cannot be made: {error.strerror}.", "Name another file.") from error
    session.gateway.download(f"/v1/runs/{run_id}/report", target, {"format": form})
    return target


def _failed(session: Session, run: RunView) -> None:
    error = run.error or {}
    where = error.get("stage") or run.run_id
    message = f"{where}  {error.get('message') or 'the run failed; its events say why'}"
    session.output.error(CliError(message, str(error.get("remedy") or "")))


def _took(run: RunView) -> str:
    return clock(run.finished_at - run.created_at) if run.finished_at else ""


def look(session: Session, run_id: str) -> RunView:
    """The run as it is now."""
    return run_view(session.gateway.run(run_id))
