"""Whole runs: submit, look, watch, steer."""

from __future__ import annotations

import argparse
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from overproof.cli import recipes
from overproof.cli.ending import conclude, follow, look, submit_and_follow
from overproof.cli.errors import CliError, UsageError
from overproof.cli.progress import rows, spending
from overproof.cli.render.plain import line_of
from overproof.cli.session import Session
from overproof.cli.views import RunView


def register(add: Any) -> None:
    """`add(name, help, command)` → the command's own parser."""
    one = add("run", "submit a recipe and watch it to the end", run)
    one.add_argument("recipe", nargs="?", type=Path, metavar="RECIPE.yaml")
    one.add_argument("--set", action="append", default=[], metavar="a.b=c", help="change a field of the recipe")
    one.add_argument("--resume", metavar="ID", help="go on with a run, or, with --set, start a changed copy of it")
    one.add_argument("--detach", action="store_true", help="submit only")
    one.add_argument("--key", help="Idempotency-Key: the same key gives the same run")
    one = add("validate", "check a recipe and what it names, without running it", validate)
    one.add_argument("recipe", type=Path, metavar="RECIPE.yaml")
    one.add_argument("--set", action="append", default=[], metavar="a.b=c")
    add("watch", "follow a run", watch).add_argument("run_id", metavar="ID")
    add("status", "one run (the newest, when none is named)", status).add_argument("run_id", nargs="?", metavar="ID")
    for verb, what in (("cancel", "stop it for good"), ("pause", "let it rest"), ("resume", "let it go on")):
        one = add(verb, f"{what}", steer)
        one.add_argument("run_id", metavar="ID")
        one.set_defaults(verb=verb)
        if verb == "resume":
            one.add_argument("--budget", type=float, metavar="USD", help="a new budget, in place of the recipe's")


def run(session: Session, args: argparse.Namespace) -> int:
    """`overproof run`."""
    if args.resume:
        return _resume(session, args)
    if args.recipe is None:
        raise UsageError("No recipe was named.", "overproof run recipes/demo.yaml")
    recipe = recipes.apply(recipes.read(args.recipe), args.set)
    return _finish(session, submit_and_follow(session, recipe, detach=args.detach, key=args.key))


def _resume(session: Session, args: argparse.Namespace) -> int:
    if args.recipe is not None:
        raise UsageError("A recipe and --resume exclude each other.", f"overproof run --resume {args.resume}")
    if not args.set:
        session.gateway.want(args.resume, "resume")
        if args.detach:
            session.output.data({"type": "submitted", "run_id": args.resume})
            session.output.next(f"overproof watch {args.resume}")
            return 0
        return conclude(session, follow(session, args.resume))
    recipe = recipes.apply(session.gateway.run(args.resume)["recipe"], args.set)
    return _finish(session, submit_and_follow(session, recipe, detach=args.detach, key=args.key))


def _finish(session: Session, ended: RunView | None) -> int:
    return 0 if ended is None else conclude(session, ended)


def validate(session: Session, args: argparse.Namespace) -> int:
    """`overproof validate`."""
    recipe = recipes.apply(recipes.read(args.recipe), args.set)
    answer = session.gateway.validate(recipe)
    session.output.data({"valid": True} | answer)
    session.output.text(f"✓ {args.recipe} is valid")
    for warning in answer.get("warnings") or ():
        session.output.text(f"! {warning}")
    settings = "".join(f" --set {setting}" for setting in args.set)
    session.output.next(f"overproof run {args.recipe}{settings}")
    return 0


def watch(session: Session, args: argparse.Namespace) -> int:
    """`overproof watch`."""
    return conclude(session, follow(session, args.run_id))


def status(session: Session, args: argparse.Namespace) -> int:
    """`overproof status`: one look; the exit status says whether it could be had, not how the run is."""
    found = look(session, args.run_id or _newest(session))
    now = time.time()
    session.output.data(asdict(found))
    session.output.text(f"{found.run_id}  {found.name}  {found.state}")
    for row in rows(found, now):
        session.output.text(f" {line_of(row)}")
    if money := spending(found):
        session.output.text(f" {money}")
    if found.error:
        session.output.text(f" ✗ {found.error.get('message', '')} {found.error.get('remedy', '')}".rstrip())
    session.output.next(_after(found))
    return 0


def _after(run: RunView) -> str:
    if run.state == "succeeded":
        return f"overproof report {run.run_id}" if "report" in run.artifacts else f"overproof ls {run.run_id}"
    if run.state == "paused" and run.error:
        return f"overproof resume {run.run_id} --budget USD"
    return f"overproof {'watch' if run.state in ('queued', 'running') else 'resume'} {run.run_id}"


def _newest(session: Session) -> str:
    found = session.gateway.runs(limit=1)
    if not found:
        raise CliError("There is no run yet.", "overproof run recipes/demo.yaml")
    return str(found[0]["id"])


def steer(session: Session, args: argparse.Namespace) -> int:
    """`overproof cancel|pause|resume`."""
    answer = session.gateway.want(args.run_id, args.verb, getattr(args, "budget", None))
    session.output.data({"run_id": args.run_id, "verb": args.verb} | answer)
    session.output.text(f"✓ {args.verb} asked for; the pipeline acts within seconds")
    session.output.next(f"overproof {'watch' if args.verb == 'resume' else 'resume'} {args.run_id}")
    return 0
