"""A gold answer that cannot be read ends a run before anything is sampled, wherever the problems come from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from overproof.shared.runs import RunState

LINES = "".join(f'{{"problem": "What is {i} + 1?", "answer": "{"?" if i in (8, 11) else i + 1}"}}\n' for i in range(12))
COMMIT = "0" * 40


def file(site: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "golds.jsonl").write_text(LINES)
    site.settings.data_root = folder
    return {"file": "golds.jsonl"}


def upload(site: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    files, name = site.worker.artifacts.files, "ds_" + "a" * 32
    record = {
        "dataset_id": name, "name": "golds", "filename": "golds.jsonl", "format": "jsonl", "rows": 12, "bytes": len(LINES),
        "sha256": "0" * 64, "columns": ["problem", "answer"], "created_at": 0,
    }  # fmt: skip
    files.create(f"datasets/{name}/golds.jsonl", LINES.encode())
    files.create_json(f"datasets/{name}/dataset.json", record)
    return {"upload": name}


def hub(site: Any, folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A data set of the hub, as it lies in the cache of a machine without a network."""
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    site.settings.allow_hub = True
    snapshot = folder / "hub" / "datasets--org--golds" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "train.jsonl").write_text(LINES)
    return {"hub": "org/golds", "revision": COMMIT, "split": "train"}


SOURCES = [file, upload, hub]


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.__name__)
@pytest.mark.parametrize("name", ["train", "test"])
def test_unreadable_golds_are_named_before_anything_is_sampled(
    site: Any, source: Callable[..., dict[str, Any]], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = source(site, tmp_path / "data", monkeypatch)
    site.submit(data=site.recipe["data"] | {name: given})
    status = site.run()
    assert status.state is RunState.FAILED
    assert status.error is not None
    row = next(iter(given[key] for key in ("file", "upload", "hub") if key in given))
    assert (
        status.error.message == f"2 gold answers cannot be read: {row}:9 (it is no answer), {row}:12 (it is no answer)."
    )
    assert status.error.remedy == "Mend them, or set data.on_ungradable: keep to count their rows as ungradable."
    assert not any(made.startswith(("sample", "train")) for made in site.made)


def test_given_completions_are_not_graded_by_golds_that_cannot_be_read(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = file(site, tmp_path / "data", monkeypatch)
    (tmp_path / "data" / "c.jsonl").write_text('{"problem": "What is 3 + 1?", "solution": "right", "num_tokens": 3}\n')
    for goal in ("grade", "select"):
        site.submit(goal, goal=goal, data={"train": problems}, given={"completions": {"file": "c.jsonl"}})
        status = site.run(run_id=goal)
        assert status.error is not None
        assert "golds.jsonl:9 (it is no answer)" in status.error.message
    assert not any(made.startswith("grade") for made in site.made)


def test_a_message_names_five_rows_in_order_and_counts_the_others(
    site: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problems = file(site, tmp_path / "data", monkeypatch)
    lines = "".join(f'{{"problem": "What is {i} + 1?", "answer": "?"}}\n' for i in range(12))
    (tmp_path / "data" / "golds.jsonl").write_text(lines)
    site.submit(goal="select", data={"train": problems})
    error = site.run().error
    assert error is not None
    named = ", ".join(f"golds.jsonl:{line} (it is no answer)" for line in range(1, 6))
    assert error.message == f"12 gold answers cannot be read: {named}, 7 more."
