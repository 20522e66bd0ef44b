"""Hostile input at the edge of the line protocol: each line gets its verdict in its place, whatever stands in the others."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

COMMAND = [sys.executable, "-m", "overproof.grading", "lines"]
GOOD = b'{"pred": "1/2", "gold": "0.5"}'
MEGABYTE = 1 << 20

BAD = {
    "nested lists": b"[" * MEGABYTE,
    "nested objects": b'{"a":' * 300_000,
    "nested in a good line": b'{"pred": "5", "gold": "5", "x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "half a line": b'{"pred": "5", "go',
    "two objects": GOOD + GOOD,
    "NUL bytes": b"\x00" * MEGABYTE,
    "not UTF-8": b"\xff\xfe\xfa" * 1000,
    "UTF-16": '{"pred": "5", "gold": "5"}'.encode("utf-16"),
    "a pickle": b"\x80\x04\x95\x1f\x8c\x05posix\x94\x8c\x06system\x94\x93\x94.",
    "a key twice": b'{"pred": "5", "gold": "5", "pred": "6"}',
    "a number as answer list": b'{"pred": [5], "gold": "5"}',
    "65 golds": b'{"pred": "5", "gold": [' + b",".join([b'"5"'] * 65) + b"]}",
    "too long": b'{"pred": "' + b"5" * (65 * MEGABYTE) + b'", "gold": "5"}',
}
REFUSED = {
    "a number of a million digits": b'{"pred": ' + b"5" * MEGABYTE + b', "gold": 5}',
    "a number beyond floats": b'{"pred": 1e999, "gold": 5}',
    "a number below floats": b'{"pred": -1e-999, "gold": 0}',
    "not a number": b'{"pred": NaN, "gold": 5}',
    "infinity": b'{"pred": Infinity, "gold": 5}',
    "a lone surrogate": b'{"pred": "\\ud800", "gold": "5"}',
    "a surrogate in the gold": b'{"pred": "5", "gold": "5\\udfff"}',
    "an escaped NUL": b'{"pred": "1\\u00007", "gold": "17"}',
    "bytes that are not UTF-8 in the answer": b'{"pred": "5\xff", "gold": "5"}',
    "fifty megabytes": b'{"output": "' + b"so it is 8. " * (50 * MEGABYTE // 12) + b'", "gold": "5"}',
    "fifty megabytes of boxes": b'{"output": "' + b"\\\\boxed{" * (50 * MEGABYTE // 8) + b'", "gold": "5"}',
    "fifty megabytes of escapes": b'{"pred": "' + b"\\u0035" * (50 * MEGABYTE // 6) + b'", "gold": "5"}',
    "line separators of Unicode": '{"pred": "5\u2028\u0085\u20296", "gold": "56"}'.encode(),
}


def graded(given: bytes, *flags: str) -> list[dict[str, Any]]:
    done = subprocess.run([*COMMAND, *flags], input=given, capture_output=True, check=True)
    return [json.loads(line) for line in done.stdout.split(b"\n")[:-1]]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_each_line_has_its_place(workers: str) -> None:
    hostile = [*BAD.values(), *REFUSED.values()]
    found = graded(b"\n".join(part for line in hostile for part in (line, GOOD)), "--workers", workers)
    assert [row["verdict"] for row in found[1::2]] == ["correct"] * len(hostile)
    names = dict(zip([*BAD, *REFUSED], found[::2], strict=True))
    assert {name: names[name]["verdict"] for name in BAD} == dict.fromkeys(BAD, "ungradable")
    assert all(names[name]["error"].endswith((".", "guess.")) for name in BAD)
    assert {name for name in REFUSED if names[name]["correct"]} == set()
    assert all("error" not in names[name] for name in REFUSED)


@pytest.mark.parametrize(
    "given",
    [
        b"\xef\xbb\xbf" + GOOD + b"\n" + GOOD + b"\n",
        GOOD + b"\r\n" + GOOD + b"\r\n",
        GOOD + b"\n" + GOOD,
        b" " + GOOD + b" \n\t" + GOOD + b"\t\n",
    ],
    ids=["byte order mark", "carriage returns", "no newline at the end", "blanks around"],
)
def test_line_ends_of_other_systems(given: bytes) -> None:
    assert [row["verdict"] for row in graded(given)] == ["correct", "correct"]


def test_empty_lines_are_lines() -> None:
    assert [row["verdict"] for row in graded(b"\n" + GOOD + b"\n\n")] == ["ungradable", "correct", "ungradable"]


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    process = subprocess.Popen(COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.write((GOOD + b"\n") * 1000)
    process.stdin.flush()
    process.stdout.readline()
    process.stdout.close()
    with pytest.raises(BrokenPipeError):
        _write_for_ever(process.stdin)
    assert process.wait(20) == 141
    assert process.stderr.read() == b""


def _write_for_ever(pipe: IO[bytes]) -> None:
    while True:
        pipe.write((GOOD + b"\n") * 1000)


@pytest.fixture
def hears_ctrl_c() -> Iterator[None]:
    """What a shell starts in the background ignores SIGINT, and so would a child."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("hears_ctrl_c")
def test_ctrl_c_ends_it_and_its_processes_quietly() -> None:
    process = subprocess.Popen(
        [*COMMAND, "--workers", "2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(GOOD + b"\n")
    process.stdin.flush()
    process.stdout.readline()
    workers = [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    assert len(workers) == 2
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(20) == 130
    assert process.communicate()[1] == b""
    deadline = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in workers) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(Path(f"/proc/{pid}").exists() for pid in workers)


@pytest.mark.parametrize(
    "flags",
    [
        ("--seconds-per-answer", "nan"),
        ("--seconds-per-answer", "0"),
        ("--decimal-tolerance", "-1"),
        ("--workers", "1e3"),
    ],
)
def test_flags_out_of_range_are_refused(flags: tuple[str, str]) -> None:
    done = subprocess.run([*COMMAND, *flags], input=b"", capture_output=True, check=False)
    assert done.returncode == 2
    assert f"{flags[0]} is a number from".encode() in done.stderr
