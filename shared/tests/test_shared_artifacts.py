"""Artifacts: whole or not at all, first writer wins, damage is noticed and made good."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pyarrow as pa
import pytest

from overproof.shared.artifacts import Artifacts, inputs_of
from overproof.shared.errors import ArtifactMissing, CorruptShard, DatasetError, NotFound, StorageUnavailable
from overproof.shared.files import Files
from overproof.shared.recipe import DataSource, GradingOptions
from overproof.shared.records import Failure, FilePart, Receipt
from overproof.shared.specs import CheckGoldSpec, GradeSpec, PrepareSpec
from overproof.shared.tables import GOLD_CHECKS, table_of

SPEC = CheckGoldSpec(problems="prepare/" + "0" * 32)


def rows(n: int, answer: str = "1") -> pa.Table:
    row = {"source": "s", "answer": answer, "readable": True, "reason": ""}
    return table_of(({"problem_id": str(i), **row} for i in range(n)), GOLD_CHECKS)


def publish(artifacts: Artifacts, shard: int, table: pa.Table) -> tuple[bool, FilePart]:
    part = artifacts.write_part(SPEC.ref, shard, GOLD_CHECKS, [table])
    now = time.time()
    receipt = Receipt(shard=shard, parts=(part,), notes={"unreadable": 0}, owner="me", started_at=now, finished_at=now)
    return artifacts.publish(SPEC.ref, receipt), part


def test_key_follows_every_field() -> None:
    assert SPEC.key == CheckGoldSpec(problems="prepare/" + "0" * 32).key
    assert SPEC.key != CheckGoldSpec(problems="prepare/" + "1" * 32).key
    assert SPEC.key != CheckGoldSpec(problems="prepare/" + "0" * 32, grader="another").key


def test_inputs_are_found_anywhere_in_a_spec() -> None:
    a, b = "sample/" + "a" * 32, "prepare/" + "b" * 32
    assert inputs_of(GradeSpec(completions=a, problems=b, options=GradingOptions())) == (b, a)


def test_spec_comes_back_as_it_was(artifacts: Artifacts) -> None:
    spec = PrepareSpec(source=DataSource(generator="demo-math", n=3, split="train"), rows_per_part=2)
    artifacts.declare(spec)
    assert artifacts.spec(spec.ref) == spec
    with pytest.raises(NotFound):
        artifacts.spec("sample/" + "f" * 32)


def test_rows_come_back_and_manifest_is_last(artifacts: Artifacts) -> None:
    artifacts.declare(SPEC)
    assert publish(artifacts, 0, rows(3))[0]
    with pytest.raises(ArtifactMissing):
        artifacts.close(SPEC.ref, 2, "gold_checks")
    publish(artifacts, 1, rows(2))
    assert artifacts.manifest(SPEC.ref) is None
    manifest = artifacts.close(SPEC.ref, 2, "gold_checks")
    assert (manifest.rows, manifest.n_shards, manifest.inputs) == (5, 2, (SPEC.problems,))
    assert sum(batch.num_rows for batch in artifacts.read(SPEC.ref, GOLD_CHECKS)) == 5
    assert [batch.num_rows for batch in artifacts.read(SPEC.ref, GOLD_CHECKS, part=1)] == [2]


def test_second_publisher_learns_it_and_its_file_is_removed(artifacts: Artifacts, storage: Path) -> None:
    artifacts.declare(SPEC)
    first, kept = publish(artifacts, 0, rows(3))
    second, lost = publish(artifacts, 0, rows(3, answer="2"))
    assert (first, second) == (True, False)
    names = set(os.listdir(storage / "artifacts" / SPEC.ref))
    assert kept.name in names
    assert lost.name not in names


def test_equal_second_publication_keeps_the_file(artifacts: Artifacts, storage: Path) -> None:
    artifacts.declare(SPEC)
    publish(artifacts, 0, rows(3))
    published, part = publish(artifacts, 0, rows(3))
    assert not published
    assert (storage / "artifacts" / SPEC.ref / part.name).exists()


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "gone"])
def test_damaged_part_is_set_aside_and_counts_as_not_made(artifacts: Artifacts, storage: Path, damage: str) -> None:
    artifacts.declare(SPEC)
    _, part = publish(artifacts, 0, rows(50))
    artifacts.close(SPEC.ref, 1, "gold_checks")
    path = storage / "artifacts" / SPEC.ref / part.name
    content = path.read_bytes()
    flipped = content[:40] + bytes([content[40] ^ 1]) + content[41:]
    path.write_bytes({"flip": flipped, "cut": content[:100], "empty": b"", "gone": b""}[damage])
    if damage == "gone":
        path.unlink()
    with pytest.raises(CorruptShard, match="made again"):
        list(artifacts.read(SPEC.ref, GOLD_CHECKS))
    assert artifacts.manifest(SPEC.ref) is None
    assert artifacts.listing(SPEC.ref).done == set()
    publish(artifacts, 0, rows(50))
    artifacts.close(SPEC.ref, 1, "gold_checks")
    assert sum(batch.num_rows for batch in artifacts.read(SPEC.ref, GOLD_CHECKS)) == 50


def test_reader_with_an_old_manifest_does_not_undo_the_repair(artifacts: Artifacts, storage: Path) -> None:
    artifacts.declare(SPEC)
    _, part = publish(artifacts, 0, rows(5))
    artifacts.close(SPEC.ref, 1, "gold_checks")
    late = Artifacts(Files(str(storage)))
    assert late.manifest(SPEC.ref)
    (storage / "artifacts" / SPEC.ref / part.name).write_bytes(b"broken")
    with pytest.raises(CorruptShard):
        list(artifacts.read(SPEC.ref, GOLD_CHECKS))
    publish(artifacts, 0, rows(5, answer="2"))
    artifacts.close(SPEC.ref, 1, "gold_checks")
    with pytest.raises(CorruptShard):
        list(late.read(SPEC.ref, GOLD_CHECKS))
    assert sum(batch.num_rows for batch in late.read(SPEC.ref, GOLD_CHECKS)) == 5


def test_failure_is_listed_until_it_is_forgiven(artifacts: Artifacts) -> None:
    artifacts.declare(SPEC)
    artifacts.fail(SPEC.ref, Failure(shard=4, message="m", kind="Poison", attempts=5, owner="me", failed_at=0))
    assert artifacts.listing(SPEC.ref).failed == {4}
    assert artifacts.failure(SPEC.ref, 4).message == "m"
    artifacts.forgive(SPEC.ref)
    assert artifacts.listing(SPEC.ref).failed == set()


def test_table_that_does_not_fit_names_the_column(artifacts: Artifacts) -> None:
    with pytest.raises(DatasetError, match="no column reason"):
        artifacts.write_part(SPEC.ref, 0, GOLD_CHECKS, [rows(1).drop(["reason"])])


def test_nothing_is_left_of_a_failed_write(artifacts: Artifacts, storage: Path) -> None:
    with pytest.raises(DatasetError):
        artifacts.write_part(SPEC.ref, 0, GOLD_CHECKS, [rows(1), rows(1).drop(["reason"])])
    assert os.listdir(storage / "artifacts" / SPEC.ref) == []


def test_create_is_exclusive_and_put_is_not(tmp_path: Path) -> None:
    files = Files(str(tmp_path))
    assert files.create("a/b.json", b"1")
    assert not files.create("a/b.json", b"2")
    assert files.read("a/b.json") == b"1"
    files.put("a/b.json", b"3")
    assert files.read("a/b.json") == b"3"
    assert files.names("a") == ["b.json"]


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x"])
def test_paths_stay_below_the_root(tmp_path: Path, path: str) -> None:
    with pytest.raises(ValueError, match="leaves the storage root"):
        Files(str(tmp_path)).read(path)


def test_unwritable_storage_is_named_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file where a folder should be")
    with pytest.raises(StorageUnavailable, match="Check that the storage"):
        Files(str(tmp_path / "file")).put("a/b", b"x")


@pytest.mark.parametrize(
    ("number", "told"), [(errno.ENOSPC, "is full"), (errno.EROFS, "read-only"), (errno.EIO, "reachable")]
)
def test_failing_disk_is_named_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, told: str
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StorageUnavailable, match=told):
        Files(str(tmp_path)).create("a/b.json", b"1")
    assert not (tmp_path / "a" / "b.json").exists()


def test_remote_storage_keeps_the_same_promises() -> None:
    files = Files("memory://promises")
    assert files.create("a/b.json", b"1")
    assert not files.create("a/b.json", b"2")
    assert files.read("a/b.json") == b"1"
    assert files.names("a") == ["b.json"]
    with pytest.raises(StorageUnavailable, match="Mount the storage"):
        files.local("a")
