"""Rows of a data set, wherever it comes from; one row in memory at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO, cast

from overproof.demo.problems import SPLITS, generate
from overproof.pipeline.settings import PipelineSettings
from overproof.shared.errors import DatasetError
from overproof.shared.files import Files
from overproof.shared.formats import Format, Row, format_of, rows_in
from overproof.shared.recipe import DataSource
from overproof.shared.runs import Runs


def rows_of_source(source: DataSource, files: Files, settings: PipelineSettings) -> Iterator[Row]:
    """The source's rows, the first `n` when it says so. Raises DatasetError."""
    rows = _rows(source, files, settings)
    return itertools.islice(rows, source.n) if source.n else rows


def _rows(source: DataSource, files: Files, settings: PipelineSettings) -> Iterator[Row]:
    if source.generator:
        return _generated(source)
    if source.upload:
        dataset = Runs(files).dataset(source.upload)
        return _from(files.open(f"datasets/{source.upload}/{dataset.filename}"), dataset.format)
    if source.file:
        return _from_path(below(settings.data_root, source.file))
    if source.hub:
        return itertools.chain.from_iterable(_from_path(path) for path in _hub_files(source, settings))
    raise DatasetError(
        "An artifact is read as it is, not prepared.", "Name a file, an upload, a hub data set or the generator."
    )


def below(root: Path, name: str) -> Path:
    """A file below the data root. Raises DatasetError for one that is not there or lies outside."""
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()):
        raise DatasetError(f"{name} lies outside the data root.", "Put the file below it, or upload it.")
    if not path.is_file():
        raise DatasetError(
            f"There is no file {name} below the data root.", "Put it there, or upload it with `overproof cp`."
        )
    return path


def _from_path(path: Path) -> Iterator[Row]:
    return _from(cast(BinaryIO, path.open("rb")), format_of(path.name))


def _from(file: BinaryIO, kind: Format) -> Iterator[Row]:
    with file:
        yield from rows_in(file, kind)


def _generated(source: DataSource) -> Iterator[Row]:
    if source.split not in SPLITS:
        raise DatasetError(f"The generator has no split {source.split}.", f"Use one of {', '.join(SPLITS)}.")
    try:
        for number, problem in enumerate(generate(source.split, source.n or 1, source.seed), 1):
            yield Row(number, asdict(problem))
    except ValueError as error:
        raise DatasetError(str(error), "Ask for fewer problems.") from None


def _hub_files(source: DataSource, settings: PipelineSettings) -> list[Path]:
    """Parquet, JSONL or CSV files of a hub data set whose names hold the split, downloaded once."""
    if not settings.allow_hub:
        raise DatasetError(
            "This installation may not fetch from the hub.", "Set OVERPROOF_ALLOW_HUB=true, or upload the data."
        )
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise DatasetError("huggingface_hub is not installed.", "Install overproof-pipeline[hub].") from None
    endings = ("parquet", "jsonl", "csv")
    where = f"{source.config}/*" if source.config else "*"
    folder = snapshot_download(
        source.hub,
        repo_type="dataset",
        revision=source.revision,
        allow_patterns=[f"{where}.{ending}" for ending in endings],
    )
    split = source.split or "train"
    found = sorted(path for path in Path(folder).rglob("*") if path.suffix[1:] in endings and split in path.name)
    if not found:
        raise DatasetError(
            f"{source.hub} has no parquet, JSONL or CSV file named for the split {split}.",
            "Name another split or config.",
        )
    return found
