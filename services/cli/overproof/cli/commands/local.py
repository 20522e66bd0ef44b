"""`overproof local up|demo|down`: all services on this machine."""

from __future__ import annotations

import argparse
import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from overproof.cli import recipes
from overproof.cli.client import Gateway
from overproof.cli.ending import conclude, submit
from overproof.cli.errors import CliError, Refused, Unreachable
from overproof.cli.local import gpus, redis_server, services
from overproof.cli.local.ports import port_or_free
from overproof.cli.local.state import DEFAULT, StateFolder
from overproof.cli.local.supervisor import Supervisor
from overproof.cli.progress import clock
from overproof.cli.render import renderer_for
from overproof.cli.session import Session
from overproof.cli.views import run_view
from overproof.cli.watch import watch

GATEWAY_PORT = 8000
READY_SECONDS = 90.0  # six Python processes that import torch and pyarrow, on two slow cores with a cold disk
EXIT_INTERRUPTED = 130
RESUMABLE = ("failed", "cancelled", "paused")


def register(add: Any) -> None:
    """`add(name, help, command)` → the command's own parser."""
    parser = add("local", "all services on this machine: up, demo, down", None)
    actions = parser.add_subparsers(dest="action", required=True, metavar="up|demo|down")
    for name, what, command in (
        ("up", "start them and stay until Ctrl-C", up),
        ("demo", "start them, run the demo (or go on with it), stop them", demo),
        ("down", "end the ones that run", down),
    ):
        one = actions.add_parser(name, help=what, description=what, parents=[add.flags])
        one.set_defaults(command=command)
        one.add_argument("--state", type=Path, default=DEFAULT, help="state folder (default var)")
        if command is not down:
            one.add_argument("--port", type=int, default=GATEWAY_PORT, help="of the gateway; another if it is taken")
            one.add_argument("--model-root", type=Path, help="default: models, or demo/models")
            one.add_argument("--data-root", type=Path, help="default: data")
        if command is demo:
            one.add_argument("--recipe", type=Path, default=Path("recipes/demo.yaml"))
            one.add_argument("--set", action="append", default=[], metavar="a.b=c", help="change a field of the recipe")
            one.add_argument("--fresh", action="store_true", help="set aside what was made, and begin again")


class Ended(KeyboardInterrupt):
    """Ctrl-C, SIGTERM or a closed terminal: end in order."""


@contextlib.contextmanager
def ending_in_order() -> Iterator[None]:
    """Turn the signals that end a program into Ended; a second one ends at once."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def end(number: int, frame: FrameType | None) -> None:
        for each in numbers:
            signal.signal(each, signal.SIG_IGN if each == signal.SIGHUP else signal.default_int_handler)
        raise Ended

    before = {number: signal.signal(number, end) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def running(session: Session, args: argparse.Namespace, state: StateFolder) -> Iterator[Supervisor]:
    """All services, ready; they are ended when the block is left, however it is left."""
    supervisor, port = _installation(session, args, state)
    session.output.text(
        f"starting {', '.join(child.program.name for child in supervisor.children)}; logs in {state.logs}/"
    )
    if shares := gpus.sentence(session.environ):
        session.output.text(shares)
    try:
        supervisor.start()
        session.url = f"http://127.0.0.1:{port}"
        session.pause = supervisor.wait
        _wait_ready(session.gateway, supervisor)
        state.announce(session.url)
        yield supervisor
    finally:
        _stop(session, supervisor)


def _installation(session: Session, args: argparse.Namespace, state: StateFolder) -> tuple[Supervisor, int]:
    """The supervisor, not yet started, and the gateway's port."""
    redis = redis_server.configure(state.redis, session.environ)
    if not redis.argv:
        redis_server.wait_ready(redis.url, seconds=0)
    port = port_or_free(args.port)
    given = {"model_root": args.model_root or services.model_root(session.environ), "data_root": args.data_root}
    roots = {name: path for name, path in given.items() if path is not None}
    return Supervisor(services.programs(state, redis, port, roots), state.logs), port


def _wait_ready(gateway: Gateway, supervisor: Supervisor) -> None:
    end = time.monotonic() + READY_SECONDS
    while True:
        supervisor.wait(0.2)
        try:
            status, body = gateway.readiness()
        except Unreachable as error:
            reason = error.message
        else:
            if status < 400:
                return
            reason = " ".join(str(check["detail"]) for check in (body.get("checks") or {}).values() if not check["ok"])
        if time.monotonic() > end:
            raise CliError(
                f"The services are not ready after {READY_SECONDS:.0f} s: {reason}",
                f"less {supervisor.children[-1].log.parent}/*.log",
            )


def _stop(session: Session, supervisor: Supervisor) -> None:
    try:
        supervisor.stop()
    except KeyboardInterrupt:  # a second Ctrl-C
        supervisor.kill()
    session.output.text("all services have ended")


def up(session: Session, args: argparse.Namespace) -> int:
    """`overproof local up`."""
    state = StateFolder(args.state)
    try:
        with state.locked(), ending_in_order(), running(session, args, state) as supervisor:
            session.output.data({"url": session.url, "processes": supervisor.processes()})
            session.output.text(f"✓ ready   {session.url}   Ctrl-C ends it")
            session.output.next(f"OVERPROOF_URL={session.url} overproof run recipes/demo.yaml")
            while True:
                supervisor.wait(60)
    except Ended:
        return 0


def demo(session: Session, args: argparse.Namespace) -> int:
    """`overproof local demo`: the same command goes on where it stopped; exit status 0 only when the run succeeded."""
    started = time.monotonic()
    state = StateFolder(args.state)
    recipe = recipes.apply(recipes.read(args.recipe), args.set)
    try:
        with state.locked(), ending_in_order():
            if args.fresh and (aside := state.set_aside()):
                session.output.text(f"what was made before lies in {aside}/")
            with running(session, args, state):
                status = _demo_run(session, recipe, state)
    except Ended:
        session.output.error(CliError("Stopped; nothing that was made is lost.", "The same command goes on from here."))
        return EXIT_INTERRUPTED
    seconds = time.monotonic() - started
    session.output.data({"type": "wall", "wall_seconds": round(seconds, 1)})
    session.output.text(f"wall time {clock(seconds)} ({seconds:.1f} s), services' start and end included")
    return status


def _demo_run(session: Session, recipe: dict[str, Any], state: StateFolder) -> int:
    gateway = session.gateway
    run_id = submit(session, recipe, recipes.key_of(recipe))
    found = run_view(gateway.run(run_id))
    session.output.text(f"▸ run {run_id}   {found.state}   {session.url}/v1/runs/{run_id}")
    if found.state in RESUMABLE:
        with contextlib.suppress(Refused):  # somebody else resumed it meanwhile
            gateway.want(run_id, "resume")
        _wait_until_resumed(session, run_id)
    run = watch(gateway, run_id, renderer_for(session.output), session.pause)
    return conclude(session, run, state.reports, (f"less {state.logs}/*.log", "and the same command again: it goes on"))


def _wait_until_resumed(session: Session, run_id: str, seconds: float = 15.0) -> None:
    """Until the pipeline has seen that the run is wanted again: before that its status is still the old, final one."""
    end = time.monotonic() + seconds
    while run_view(session.gateway.run(run_id)).state in RESUMABLE and time.monotonic() < end:
        session.pause(0.5)


def down(session: Session, args: argparse.Namespace) -> int:
    """`overproof local down`."""
    ended = StateFolder(args.state).end_owner()
    session.output.data({"ended": ended})
    session.output.text("✓ all services have ended" if ended else f"no services run from {args.state}/")
    session.output.next("overproof local up")
    return 0
