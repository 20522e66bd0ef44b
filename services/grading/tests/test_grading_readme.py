"""The example of the README prints what its comments say."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).parents[1] / "README.md"


def test_the_library_does_what_the_readme_shows() -> None:
    (example,) = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    said = [line.rpartition("  # ")[2] for line in example.splitlines() if "  # " in line]
    done = subprocess.run([sys.executable, "-c", example], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == said
    assert len(said) >= 3
