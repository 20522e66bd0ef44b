"""Prompts and their metadata, line by line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from overproof.cli.errors import CliError
from overproof.cli.joining import joined


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_line_i_gets_the_metadata_of_line_i(tmp_path: Path) -> None:
    prompts = write(
        tmp_path / "prompts.jsonl",
        '{"problem": "1+1?", "answer": "2", "type": "mine"}',
        '{"problem": "2+2?", "answer": "4"}',
    )
    metadata = write(tmp_path / "metadata.jsonl", '{"level": 1, "type": "Algebra"}', '{"level": 2, "type": "Algebra"}')
    with joined(prompts, metadata) as file:
        rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert file.name == "prompts.jsonl"
    assert [(row["problem"], row["level"], row["type"]) for row in rows] == [
        ("1+1?", 1, "mine"),
        ("2+2?", 2, "Algebra"),
    ]


def test_without_metadata_the_file_is_sent_as_it_is(tmp_path: Path) -> None:
    prompts = write(tmp_path / "prompts.jsonl", "anything")
    with joined(prompts, None) as file:
        assert file == prompts


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        (["{}"], ["{}", "{}"], "prompts.jsonl ends before line 2"),
        (["{}", "{}"], ["{}"], "metadata.jsonl ends before line 2"),
        (["{}"], ["level 3"], "Line 1 of .*metadata.jsonl is not JSON"),
        (["[1]"], ["{}"], "Line 1 of .*prompts.jsonl is not a JSON object"),
    ],
)
def test_files_that_do_not_match_are_named(tmp_path: Path, first: list[str], second: list[str], told: str) -> None:
    prompts, metadata = write(tmp_path / "prompts.jsonl", *first), write(tmp_path / "metadata.jsonl", *second)
    with pytest.raises(CliError, match=told), joined(prompts, metadata):
        pass
