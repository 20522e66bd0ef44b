"""One command for each part of the loop: flags → a recipe → a run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from overproof.cli import recipes
from overproof.cli.commands import lines
from overproof.cli.commands.files import fetch
from overproof.cli.ending import conclude, save_report, submit_and_follow
from overproof.cli.errors import UsageError
from overproof.cli.session import Session
from overproof.cli.views import RunView

POLICIES = ("all", "shortest", "shortest_k", "below_median", "below_median_global")
RESULT_OF_GOAL = {"sample": "completions", "grade": "grades", "select": "selected", "train": "student"}
"""The first word of the artifacts that a goal is about; the others end in a report."""
DRAWN = "completions/train/round-1/"
"""Completions of the first teacher, one table per sampling pass."""


def register(add: Any) -> None:
    """`add(name, help, command)` → the command's own parser."""
    for name, what, command, flags in (
        ("sample", "completions of a model for a data set", sample, _sample_flags),
        ("grade", "verdicts for given completions, or for JSON lines on stdin", grade, _grade_flags),
        ("select", "training rows out of given completions", select, _select_flags),
        ("train", "fine-tune a student on given rows", train, _train_flags),
        ("evaluate", "accuracy and tokens of one model or several", evaluate, _evaluate_flags),
        ("compare", "compare the evaluations of earlier runs", compare, _compare_flags),
        ("regrade", "judge an earlier run's completions again; nothing is sampled", regrade, _regrade_flags),
    ):
        parser = add(name, what, command)
        flags(parser)
        parser.add_argument("--name", help="of the run")
        parser.add_argument("--output", type=Path, metavar="PATH", help="copy the result here at the end")
        parser.add_argument("--set", action="append", default=[], metavar="a.b=c", help="any other field of the recipe")
        parser.add_argument("--detach", action="store_true", help="submit only")


def _problem_flags(parser: argparse.ArgumentParser, *, required: bool) -> None:
    parser.add_argument(
        "--dataset", required=required, help="file, ds_..., demo-math:SPLIT:N, org/name, or RUN:ARTIFACT"
    )
    parser.add_argument("--column", action="append", default=[], metavar="ours=theirs", help="e.g. problem=question")
    parser.add_argument("--license", help="of the data set")


def _sampling_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--max-tokens", type=int)
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--top-p", type=float)
    parser.add_argument("--n", type=int, help="completions per problem")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--engine", choices=["vllm", "transformers", "openai"])
    parser.add_argument("--batch-size", type=int, help="of the Transformers engine")


def _sample_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="hub id[@revision], folder, or run:ID")
    _problem_flags(parser, required=True)
    _sampling_flags(parser)
    parser.add_argument("--enough", type=int, help="stop a problem at so many correct completions")


def _grade_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--completions", help='file, ds_..., or RUN:ARTIFACT; without it lines {"pred" or "output", "gold"} on stdin'
    )
    _problem_flags(parser, required=False)
    _grading_flags(parser)
    parser.add_argument("--audit", action="store_true", help="ask Math-Verify too: what differs is a table to look at")
    parser.add_argument(
        "--workers", type=int, default=1, metavar="N", help="of the form with stdin: processes that grade"
    )


def _grading_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds-per-answer", type=float)
    parser.add_argument("--strict", action="store_true", default=None, help="the same kind of thing, the same unit")
    parser.add_argument("--order-matters", action="store_true", default=None, help="1, 2 is not 2, 1")
    parser.add_argument("--decimal-tolerance", type=float, help="relative; 0, the default: exact")


def _select_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--completions", required=True, help="file, ds_..., or RUN:ARTIFACT")
    parser.add_argument("--grades", help="as --completions; without it they are graded first")
    _problem_flags(parser, required=False)
    parser.add_argument("--test", help="problems that no selected row may touch")
    parser.add_argument("--policy", choices=POLICIES, action="append", help="repeat for several")
    parser.add_argument("--k", type=int, help="for shortest_k")
    parser.add_argument("--max-per-problem", type=int)
    parser.add_argument("--labels", choices=["gold", "majority"], help="what counts as correct")


def _train_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, help="the student: hub id[@revision], folder, or run:ID")
    parser.add_argument("--data", required=True, help="selected rows: file, ds_..., or RUN:ARTIFACT")
    parser.add_argument("--column", action="append", default=[], metavar="ours=theirs")
    parser.add_argument("--license", help="of the data")
    parser.add_argument("--epochs", type=float)
    parser.add_argument("--max-steps", type=int)
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--batch-size", type=int, help="rows per optimizer step")
    parser.add_argument("--micro-batch-size", type=int, help="rows per process and forward pass")
    parser.add_argument("--max-length", type=int, help="prompt + completion tokens")
    parser.add_argument("--zero-stage", type=int, choices=[0, 1, 2, 3])
    parser.add_argument("--processes", type=int, help="GPUs, or CPU processes")
    parser.add_argument("--dtype", choices=["float32", "bfloat16"])
    parser.add_argument("--seed", type=int)


def _evaluate_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, action="append", help="repeat for several; the first is the baseline")
    _problem_flags(parser, required=True)
    _sampling_flags(parser)


def _compare_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("runs", nargs="+", metavar="RUN", help="at least two; the first is the baseline")
    parser.add_argument("--resamples", type=int, help="bootstrap resamples behind every interval")


def _regrade_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", metavar="RUN", help="its evaluations; of a run without any, its training completions")
    _grading_flags(parser)


def sample(session: Session, args: argparse.Namespace) -> int:
    """`overproof sample`."""
    several = args.n is not None and args.n > 1
    sampling = {
        "max_samples": args.n or 1,
        "samples_per_pass": None if args.enough else (args.n or 1),
        "enough": args.enough,
        "max_tokens": args.max_tokens,
        "temperature": args.temperature if args.temperature is not None else (None if several else 0.0),
        "top_p": args.top_p,
        "seed": args.seed,
    }
    fields = {"data": {"train": _dataset(session, args)}, "models": {"teacher": args.model}}
    return _finish(session, args, recipes.part("sample", args.name, **fields, sampling=sampling, engine=_engine(args)))


def grade(session: Session, args: argparse.Namespace) -> int:
    """`overproof grade`; without --completions a filter from stdin to stdout that needs no gateway."""
    if args.completions is None:
        return lines.grade(args)
    fields = {
        "data": {"train": _problems(session, args)},
        "given": {"completions": session.sources.resolve(args.completions, table="completions")},
        "grading": _grading(args) | {"audit": 1.0 if args.audit else None},
    }
    return _finish(session, args, recipes.part("grade", args.name, **fields))


def select(session: Session, args: argparse.Namespace) -> int:
    """`overproof select`."""
    resolve = session.sources.resolve
    given = {
        "completions": resolve(args.completions, table="completions"),
        "grades": resolve(args.grades, table="grades") if args.grades else None,
    }
    policies = [
        {"policy": policy} | _some(k=args.k, max_per_problem=args.max_per_problem, labels=args.labels)
        for policy in args.policy or ["shortest"]
    ]
    data = {"train": _problems(session, args), "test": resolve(args.test) if args.test else None}
    return _finish(session, args, recipes.part("select", args.name, data=data, given=given, selection=policies))


def train(session: Session, args: argparse.Namespace) -> int:
    """`overproof train`."""
    names = (
        "epochs",
        "max_steps",
        "learning_rate",
        "micro_batch_size",
        "max_length",
        "zero_stage",
        "processes",
        "dtype",
        "seed",
    )
    training = {name: getattr(args, name) for name in names} | {"global_batch_size": args.batch_size}
    fields = {
        "models": {"student": args.model},
        "given": {"selected": session.sources.resolve(args.data, args.column, args.license, table="selected")},
        "training": training,
    }
    return _finish(session, args, recipes.part("train", args.name, **fields))


def evaluate(session: Session, args: argparse.Namespace) -> int:
    """`overproof evaluate`."""
    evaluation = {
        "samples": args.n,
        "max_tokens": args.max_tokens,
        "temperature": args.temperature,
        "top_p": args.top_p,
        "seed": args.seed,
    }
    fields = {"data": {"test": _dataset(session, args)}, "models": {"evaluate": args.model}}
    return _finish(
        session, args, recipes.part("evaluate", args.name, **fields, evaluation=evaluation, engine=_engine(args))
    )


def compare(session: Session, args: argparse.Namespace) -> int:
    """`overproof compare`."""
    if len(args.runs) < 2:
        raise UsageError("A comparison needs at least two runs.", f"overproof compare {args.runs[0]} OTHER")
    fields = {"given": {"evaluations": args.runs}, "evaluation": {"resamples": args.resamples}}
    return _finish(session, args, recipes.part("compare", args.name, **fields))


def regrade(session: Session, args: argparse.Namespace) -> int:
    """`overproof regrade`: by the run's own grading options, but for those that flags change."""
    recipe = session.gateway.run(args.run)["recipe"]
    grading = recipe.get("grading", {}) | _some(**_grading(args))
    named = {item["name"]: item["ref"] for item in session.gateway.artifacts(args.run)}
    if "comparison" in named:
        fields = {"evaluation": recipe.get("evaluation"), "engine": recipe.get("engine"), "grading": grading}
        given = {"evaluations": [args.run], "regrade": True}
        return _finish(session, args, recipes.part("compare", args.name or "regrade", given=given, **fields))
    drawn = [ref for name, ref in sorted(named.items()) if name == "completions" or name.startswith(DRAWN)]
    if not drawn or "problems/train" not in named:
        raise UsageError(f"Run {args.run} has no completions to judge again.", f"overproof ls {args.run}")
    given = {"completions": {"artifact": drawn[0]}, "further_completions": drawn[1:] or None}
    data = {"train": {"artifact": named["problems/train"]}}
    return _finish(
        session, args, recipes.part("grade", args.name or "regrade", data=data, given=given, grading=grading)
    )


def _grading(args: argparse.Namespace) -> dict[str, Any]:
    names = ("seconds_per_answer", "strict", "order_matters", "decimal_tolerance")
    return {name: getattr(args, name) for name in names}


def _dataset(session: Session, args: argparse.Namespace) -> dict[str, Any]:
    return session.sources.resolve(args.dataset, args.column, args.license)


def _problems(session: Session, args: argparse.Namespace) -> dict[str, Any]:
    """The problems that given completions belong to: named, or those of the run that made them."""
    if args.dataset:
        return _dataset(session, args)
    found = session.sources.problems_of(args.completions)
    if found is None:
        raise UsageError("The problems of these completions were not named.", "Add --dataset.")
    return found


def _engine(args: argparse.Namespace) -> dict[str, Any]:
    return {"kind": args.engine, "batch_size": args.batch_size}


def _some(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _finish(session: Session, args: argparse.Namespace, recipe: dict[str, Any]) -> int:
    run = submit_and_follow(session, recipes.apply(recipe, args.set), detach=args.detach)
    if run is None:
        return 0
    status = conclude(session, run)
    if status == 0 and args.output:
        for path in _copy_result(session, run, recipe["goal"], args.output):
            session.output.data({"type": "file", "path": str(path)})
            session.output.text(f"✓ {path}   {path.stat().st_size:,} bytes")
    return status


def _copy_result(session: Session, run: RunView, goal: str, target: Path) -> list[Path]:
    """Tables and checkpoints by their artifact's name, with the name's last word when there are several; else the report."""
    prefix = RESULT_OF_GOAL.get(goal)
    if prefix is None:
        return [save_report(session, run.run_id, target, target.suffix.lstrip(".") or "html")]
    names = [name for name in run.artifacts if name.partition("/")[0] == prefix]
    several = len(names) > 1
    written: list[Path] = []
    for name in names:
        each = target.with_name(f"{target.stem}-{name.rsplit('/', 1)[-1]}{target.suffix}") if several else target
        written += fetch(session, run.run_id, name, each)
    return written
