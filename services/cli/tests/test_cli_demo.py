"""`overproof local demo|up|down` as processes, with a fake gateway and sleepers as services."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from overproof.cli.local.state import StateFolder

FAKE = Path(__file__).parent / "fake_gateway.py"
MAIN = """
import sys
from overproof.cli.local import services
from overproof.cli.local.supervisor import Program
from overproof.cli.main import main

def programs(state, redis, port, roots):
    state.storage.mkdir(parents=True, exist_ok=True)
    gateway = (sys.executable, {fake!r}, str(port), str(state.storage / "memory.json"))
    return [Program("redis", redis.argv), Program("gateway", gateway), Program("sleeper", (sys.executable, "-c", "import time; time.sleep(600)"))]

services.programs = programs
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def overproof(tmp_path):
    """Starts the command line in a folder of its own."""
    (tmp_path / "demo.yaml").write_text("name: demo\n")
    environ = {name: value for name, value in os.environ.items() if "REDIS_URL" not in name}
    started = []

    def start(*argv):
        command = [sys.executable, "-c", MAIN.format(fake=str(FAKE)), *argv]
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environ, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()


def ended(process):
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def runs(folder):
    return set(json.loads((folder / "var/storage/memory.json").read_text()).values())


def test_the_same_command_finds_its_run_again_and_fresh_begins_a_new_one(overproof, tmp_path):
    status, out, err = ended(overproof("local", "demo", "--recipe", "demo.yaml"))
    assert (status, err) == (0, "")
    assert "✓ sample · teacher · round 1" in out
    assert " teacher        83.0%" in out
    report = next(line for line in out.splitlines() if line.startswith(" ▸ "))
    assert (tmp_path / report.removeprefix(" ▸ ")).read_text() == "<html>report</html>"
    assert "wall time" in out
    first = runs(tmp_path)
    status, out, _ = ended(overproof("local", "demo", "--recipe", "demo.yaml"))
    assert status == 0
    assert runs(tmp_path) == first
    assert "→ sample" not in out
    status, out, _ = ended(overproof("local", "demo", "--recipe", "demo.yaml", "--fresh"))
    assert status == 0
    assert "what was made before lies in var/aside/" in out
    assert len(list((tmp_path / "var/aside").iterdir())) == 1


def test_up_stays_until_it_is_told_to_end(overproof, tmp_path):
    process = overproof("local", "up", "--json")
    ready = json.loads(process.stdout.readline())
    assert set(ready["processes"]) == {"redis", "gateway", "sleeper"}
    assert StateFolder(tmp_path / "var").url() == ready["url"]
    status, _, err = ended(overproof("local", "demo", "--recipe", "demo.yaml"))
    assert status == 1
    assert "Another supervisor" in err
    begun = time.monotonic()
    status, out, _ = ended(overproof("local", "down"))
    assert (status, out.splitlines()[0]) == (0, "✓ all services have ended")
    assert time.monotonic() - begun < 10
    assert process.wait(5) == 0
    assert not any(Path(f"/proc/{pid}").exists() for pid in ready["processes"].values())
    assert ended(overproof("local", "down"))[1].startswith("no services run")


def test_ctrl_c_ends_the_demo_in_order(overproof):
    process = overproof("local", "demo", "--recipe", "demo.yaml", "--set", "name=slow")
    line = process.stdout.readline()
    assert line.startswith("starting redis, gateway, sleeper")
    while "running" not in line:
        line = process.stdout.readline()
    process.send_signal(signal.SIGINT)
    status, out, err = ended(process)
    assert status == 130
    assert "all services have ended" in out
    assert "The same command goes on from here." in err
    assert "Traceback" not in err
