"""One version, one licence, one range of Pythons over all distributions."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from overproof.shared import __version__

ROOT = Path(__file__).parents[1]
PROJECTS = sorted(
    [ROOT / "shared" / "pyproject.toml", ROOT / "demo" / "pyproject.toml", *ROOT.glob("services/*/pyproject.toml")]
)


def project(path: Path) -> dict[str, Any]:
    return dict(tomllib.loads(path.read_text())["project"])


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_distribution_says_the_same_as_the_others(path: Path) -> None:
    found = project(path)
    assert found["name"] == f"overproof-{path.parent.name}"
    assert (found["version"], found["license"], found["requires-python"]) == (__version__, "Apache-2.0", ">=3.11,<3.14")


@pytest.mark.parametrize("path", PROJECTS, ids=lambda path: path.parent.name)
def test_namespace_has_no_package_of_its_own(path: Path) -> None:
    assert (path.parent / "overproof").is_dir()
    assert not (path.parent / "overproof" / "__init__.py").exists()
