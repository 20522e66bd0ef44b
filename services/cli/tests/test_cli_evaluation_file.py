"""An evaluation of the original workflow comes in: counted, bounded, never paired."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from overproof.cli.errors import CliError
from overproof.cli.evaluation_file import read


def write(tmp_path: Path, value: Any) -> Path:
    path = tmp_path / "theirs.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


@pytest.mark.parametrize("accuracy", [0.2625, 26.25, 0.26])
def test_counts_get_an_interval(tmp_path: Path, accuracy: float) -> None:
    found = read(
        write(tmp_path, {"overall": {"accuracy": accuracy, "correct": 21, "total": 80, "average_tokens": 512.4}})
    )
    assert (round(found.accuracy, 4), round(found.low, 4), round(found.high, 4)) == (0.2625, 0.1786, 0.3682)
    assert found.line() == " theirs   26.2%   [17.9, 36.8]   21 of 80   512 tokens   (not paired)"


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("no json", "is no evaluation"),
        ({"accuracy": 1}, "is no evaluation"),
        ({"overall": {"correct": 5, "total": 4}}, "cannot be"),
        ({"overall": {"correct": 0, "total": 0}}, "cannot be"),
        ({"overall": {"accuracy": 0.9, "correct": 1, "total": 2}}, "is not correct / total"),
    ],
)
def test_file_that_is_none_is_refused_in_one_sentence(tmp_path: Path, value: Any, told: str) -> None:
    with pytest.raises(CliError, match=told):
        read(write(tmp_path, value))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CliError, match="nowhere"):
        read(tmp_path / "nowhere.json")
