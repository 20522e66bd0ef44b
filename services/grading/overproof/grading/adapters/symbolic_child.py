"""The process in which sympy and Math-Verify run. Started by file name, alone: it imports nothing of Overproof.

On stdin and stdout: frames of four bytes length (big endian) and UTF-8 JSON. It says `{"ready": true}` once, then answers
each `{"do": "compare", "answer": .., "gold": .., "trees": [..] | null, "cpu_seconds": ..}` with `{"equal": true | false | null,
"reason": ..}` and each `{"do": "read", "gold": ..}` with `{"readable": .., "reason": ..}`; `last` says that it should be
replaced. It ends when stdin does, when its parent dies, or when a limit is hit. Math-Verify gets LaTeX only: its reader of
plain expressions uses Python's own parser.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import logging
import os
import resource
import signal
import struct
import sys
from pathlib import Path
from typing import Any, BinaryIO

PR_SET_PDEATHSIG = 1
MEMORY_BYTES = 1 << 30
"""Address space, of which sympy, Math-Verify and the ANTLR grammar take 80 MB."""
MAX_FRAME_BYTES = 1 << 20
WARM_UP = (("\\frac{1}{x+1}", "\\frac{2}{2x+2}"), ("\\int_0^1 x^3 dx", "\\frac{1}{4}"))
"""Compared before `ready`: importing sympy and its integrals takes half a second that no pair is to pay for."""


def main() -> None:
    """Serve requests until stdin ends."""
    _restrain()
    requests, answers = _private_pipes()
    logging.disable(logging.CRITICAL)
    for answer, gold in WARM_UP:
        _compare({"answer": answer, "gold": gold})
    _send(answers, {"ready": True})
    while (request := _receive(requests)) is not None:
        _limit_cpu(float(request.get("cpu_seconds", 10.0)))
        reply, large = _answer(request), _was_large()
        if large and not (reply.get("equal") or reply.get("readable")):
            sys.exit(
                1
            )  # the libraries swallow the lack of memory: "cannot read" may mean that, and what comes next may be wrong
        _send(answers, reply | {"last": large})


def _was_large() -> bool:
    """Whether it ever took half of the memory that it may take."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[0]
    status = Path("/proc/self/status").read_text() if sys.platform.startswith("linux") else ""
    return int(status.partition("VmPeak:")[2].split()[0]) * 1024 > limit // 2 if status else False


def _restrain() -> None:
    """Die with the parent; no more memory than the limit; no core files."""
    parent = os.getppid()
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent == 1 or os.getppid() != parent:
        sys.exit(0)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _private_pipes() -> tuple[BinaryIO, BinaryIO]:
    """stdin and stdout for frames only: whatever a library prints goes nowhere."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(nowhere, number)
    return requests, answers


def _limit_cpu(seconds: float) -> None:
    """SIGXCPU, which ends the process, when this request takes more CPU time: also when nobody is left to kill it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime + seconds) + 1, hard))


def _receive(pipe: BinaryIO) -> dict[str, Any] | None:
    head = pipe.read(4)
    if len(head) < 4:
        return None
    (size,) = struct.unpack(">I", head)
    body = pipe.read(size) if size <= MAX_FRAME_BYTES else b""
    return dict(json.loads(body)) if len(body) == size else None


def _send(pipe: BinaryIO, value: dict[str, Any]) -> None:
    body = json.dumps(value).encode()
    pipe.write(struct.pack(">I", len(body)) + body)
    pipe.flush()


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    try:
        return _read(request) if request["do"] == "read" else _compare(request)
    except MemoryError:
        raise
    except (Exception, RecursionError) as error:  # the libraries raise anything at all on strange input
        return {"equal": None, "readable": None, "reason": f"{type(error).__name__}"}


def _read(request: dict[str, Any]) -> dict[str, Any]:
    found = _parsed(str(request["gold"]))
    return {"readable": bool(found), "reason": "" if found else "neither the grammar nor Math-Verify can read it"}


def _parsed(text: str) -> list[Any]:
    """What Math-Verify makes of LaTeX in a box; no fallback to plain expressions or strings."""
    from math_verify import LatexExtractionConfig, parse

    found: list[Any] = parse(
        f"\\boxed{{{text}}}",
        extraction_config=[LatexExtractionConfig(boxed_match_priority=0)],
        fallback_mode="no_fallback",
        parsing_timeout=0,
    )
    return found


def _compare(request: dict[str, Any]) -> dict[str, Any]:
    """A proof by sympy where both trees are known; else Math-Verify's opinion, which must hold in both directions."""
    from math_verify import verify

    if request.get("trees"):
        proved = _prove(*request["trees"])
        if proved is not None:
            return {"equal": proved, "reason": "sympy"}
    gold, answer = _parsed(str(request["gold"])), _parsed(str(request["answer"]))
    if not gold or not answer:
        return {"equal": None, "reason": "Math-Verify cannot read the " + ("gold" if not gold else "answer")}
    equal = all(verify(*pair, float_rounding=12, timeout_seconds=0) for pair in ((gold, answer), (answer, gold)))
    return {"equal": bool(equal), "reason": "Math-Verify"}


def _prove(one: list[Any], other: list[Any]) -> bool | None:
    """Whether sympy can show two trees equal or different; None when it cannot or a tree holds what it has no name for."""
    with contextlib.suppress(KeyError):
        difference = _built(one) - _built(other)
        if difference.equals(0) is not None:
            return bool(difference.equals(0))
    return None


def _built(tree: list[Any]) -> Any:
    """A sympy expression from a tree of lists `[op, value, [arguments]]`: objects only, no text is parsed."""
    import sympy as sp

    op, value, arguments = tree
    args = [_built(argument) for argument in arguments]
    if op == "num":
        return sp.Rational(int(value[0]), int(value[1]))
    if op == "sym":
        return sp.Symbol(value, positive=True)
    if op == "const":
        return {"π": sp.pi, "e": sp.E, "i": sp.I, "∞": sp.oo}[value]
    if op == "call":
        return _function(value, args)
    rules = {
        "add": lambda: sp.Add(*args), "mul": lambda: sp.Mul(*args), "div": lambda: args[0] / args[1], "neg": lambda: -args[0],
        "pow": lambda: args[0] ** args[1], "root": lambda: sp.root(args[0], args[1]), "percent": lambda: args[0] / 100,
        "degree": lambda: args[0] * sp.pi / 180, "factorial": lambda: sp.gamma(args[0] + 1),
    }  # fmt: skip
    return rules[op]()


def _function(name: str, args: list[Any]) -> Any:
    import sympy as sp

    if name == "log":
        return sp.log(args[0], args[1] if len(args) > 1 else 10)
    known = {
        "ln": sp.log, "exp": sp.exp, "abs": sp.Abs, "floor": sp.floor, "ceil": sp.ceiling, "sqrt": sp.sqrt, "sgn": sp.sign,
        "binom": sp.binomial, "min": sp.Min, "max": sp.Max, "gcd": sp.gcd, "lcm": sp.lcm,
    }  # fmt: skip
    return (known.get(name) or {n: getattr(sp, n) for n in _SAME_NAMES}[name])(*args)


_SAME_NAMES = (
    "sin", "cos", "tan", "cot", "sec", "csc", "sinh", "cosh", "tanh", "coth", "asin", "acos", "atan", "acot",
)  # fmt: skip

if __name__ == "__main__":
    main()
