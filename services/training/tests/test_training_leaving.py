"""A process of a training ends with what was registered for its exit, and without Python's teardown."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ENDS = """
import atexit, sys
from pathlib import Path
from overproof.training.leaving import leave

class Held:
    def __del__(self, touch=Path(sys.argv[1], "torn down").touch):
        touch()

held = Held()
atexit.register(Path(sys.argv[1], "registered").touch)
print("said", end="")
leave()
"""


def test_what_was_registered_is_done_and_nothing_is_torn_down(tmp_path: Path) -> None:
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    ended = subprocess.run(
        [sys.executable, "-c", ENDS, str(tmp_path)], env=buffered, capture_output=True, text=True, timeout=60
    )
    assert (ended.returncode, ended.stdout) == (0, "said")
    assert [path.name for path in tmp_path.iterdir()] == ["registered"]
