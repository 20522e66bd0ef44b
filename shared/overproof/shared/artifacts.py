"""Artifacts: immutable results under the hash of what made them.

    artifacts/<stage>/<key>/
        spec.json                what was to be made; written first
        part-00003-9f2c….parquet the rows of shard 3, named by content
        shard-00003.json         receipt of shard 3: its parts with rows, bytes, SHA-256; created exclusively, so the first writer wins
        shard-00003.failed.json  shard 3 cannot be made, and why
        MANIFEST.json            all parts in order; written last: its existence means "complete"
        work/                    scratch that survives a crash (checkpoints)
    graded/<stage>/<key>/<key of the grades>   empty: an index of the gradings of some completions

Readers open what a receipt or the manifest lists, after checking the SHA-256; a file that does not match is set aside and
made again, never read.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from overproof.shared.errors import ArtifactMissing, CorruptShard, NotFound
from overproof.shared.files import Files
from overproof.shared.records import Failure, FilePart, Listing, Manifest, Receipt
from overproof.shared.specs import SPECS, GradeSpec, Spec
from overproof.shared.tables import conform
from overproof.shared.topology import Stage

ROWS_PER_BATCH = 2_048
"""Rows that a reader holds at once; a completion of 4,000 tokens is about 16 kB, so this is some 32 MB at worst."""
MANIFESTS_KEPT = 16
"""In memory per process: a shard looks at a few artifacts only, each up to some MB of part names."""


def split_ref(ref: str) -> tuple[Stage, str]:
    """`<stage>/<key>` → (stage, key)."""
    stage, _, key = ref.partition("/")
    return Stage(stage), key


def inputs_of(spec: Spec) -> tuple[str, ...]:
    """Every artifact reference that stands anywhere in a spec, sorted."""
    found: set[str] = set()
    _collect(spec.model_dump(mode="json"), found)
    return tuple(sorted(found))


def _collect(value: object, found: set[str]) -> None:
    if isinstance(value, dict):
        for item in value.values():
            _collect(item, found)
    elif isinstance(value, list | tuple):
        for item in value:
            _collect(item, found)
    elif isinstance(value, str):
        stage, _, key = value.partition("/")
        if stage in set(Stage) and len(key) == 32:
            found.add(value)


class Artifacts:
    """All artifacts of one storage root."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self._manifests: OrderedDict[str, Manifest] = OrderedDict()  # immutable, and asked for at every shard

    def folder(self, ref: str) -> str:
        return f"artifacts/{ref}"

    # --- what is to be made ---------------------------------------------------------------------------------------

    def declare(self, spec: Spec) -> None:
        """Write the spec before the first shard is asked for."""
        self.files.create_json(f"{self.folder(spec.ref)}/spec.json", spec.model_dump(mode="json"))

    def spec(self, ref: str) -> Spec:
        """What the artifact is to be. Raises NotFound."""
        stage, _ = split_ref(ref)
        try:
            return SPECS[stage].from_json(self.files.read_json(f"{self.folder(ref)}/spec.json"))
        except FileNotFoundError:
            raise NotFound(f"There is no artifact {ref}.", "Look at the run's list of artifacts.") from None

    # --- writing --------------------------------------------------------------------------------------------------

    def write_part(
        self, ref: str, shard: int, schema: pa.Schema, tables: Iterable[pa.Table | pa.RecordBatch], *, suffix: str = ""
    ) -> FilePart:
        """Stream tables into one parquet file named by its content. Raises DatasetError when a table does not fit the schema."""
        temporary = self.files.temporary(self.folder(ref))
        rows = 0
        try:
            with pq.ParquetWriter(temporary, schema, compression="zstd", write_page_checksum=True) as writer:
                for table in tables:
                    checked = conform(table, schema)
                    writer.write_table(checked)
                    rows += checked.num_rows
            return self._adopt(ref, temporary, f"part-{shard:05d}{suffix}-{{digest}}.parquet", rows)
        finally:
            temporary.unlink(missing_ok=True)

    def write_file(self, ref: str, path: Path, name: str) -> FilePart:
        """Take a finished local file into the artifact as `name` (which may contain folders)."""
        return self._adopt(ref, path, name, None)

    def _adopt(self, ref: str, temporary: Path, pattern: str, rows: int | None) -> FilePart:
        sha256, size = _sha256(temporary), temporary.stat().st_size
        name = pattern.format(digest=sha256[:12]) if rows is not None else pattern
        self.files.adopt(temporary, f"{self.folder(ref)}/{name}")
        return FilePart(name=name, rows=rows, bytes=size, sha256=sha256)

    def publish(self, ref: str, receipt: Receipt) -> bool:
        """Make a shard count. Returns False when another worker was first (its rows stand, these are removed)."""
        path = _receipt_path(self.folder(ref), receipt.shard)
        if self.files.create_json(path, receipt.model_dump(mode="json")):
            return True
        kept = {part.name for part in self.receipt(ref, receipt.shard).parts}
        for part in receipt.parts:
            if part.name not in kept:
                self.files.delete(f"{self.folder(ref)}/{part.name}")
        return False

    def fail(self, ref: str, failure: Failure) -> None:
        """Record that a shard cannot be made."""
        self.files.put_json(
            f"{self.folder(ref)}/shard-{failure.shard:05d}.failed.json", failure.model_dump(mode="json")
        )

    def forgive(self, ref: str) -> None:
        """Delete the failure records, so that the shards are tried again."""
        for name in self.files.names(self.folder(ref)):
            if name.endswith(".failed.json"):
                self.files.delete(f"{self.folder(ref)}/{name}")

    def close(self, ref: str, n_shards: int, schema_name: str | None) -> Manifest:
        """Write the manifest of an artifact whose shards are all published. Raises ArtifactMissing when one is not."""
        receipts = [self.receipt(ref, shard) for shard in range(n_shards)]
        stage, key = split_ref(ref)
        parts = tuple(part for receipt in receipts for part in receipt.parts)
        manifest = Manifest(
            stage=stage,
            key=key,
            n_shards=n_shards,
            parts=parts,
            rows=sum(part.rows or 0 for part in parts),
            bytes=sum(part.bytes for part in parts),
            schema_name=schema_name,
            inputs=inputs_of(self.spec(ref)),
            notes=tuple(receipt.notes for receipt in receipts),
            finished_at=time.time(),
        )
        self._index(ref)
        self.files.create_json(f"{self.folder(ref)}/MANIFEST.json", manifest.model_dump(mode="json"))
        return manifest

    def _index(self, ref: str) -> None:
        """Remember which grades there are of some completions: finding them otherwise means reading every manifest."""
        spec = self.spec(ref)
        if isinstance(spec, GradeSpec):
            self.files.create(f"graded/{spec.completions}/{spec.key}", b"")

    # --- reading --------------------------------------------------------------------------------------------------

    def manifest(self, ref: str) -> Manifest | None:
        """The manifest, or None while the artifact is not complete."""
        if ref not in self._manifests:
            try:
                value = self.files.read_json(f"{self.folder(ref)}/MANIFEST.json")
            except FileNotFoundError:
                return None
            self._manifests[ref] = Manifest.model_validate(value)
            if len(self._manifests) > MANIFESTS_KEPT:
                self._manifests.popitem(last=False)
        return self._manifests[ref]

    def grades_of(self, completions: str) -> list[Manifest]:
        """Every complete grading of these completions, the oldest first; one listing, whatever the number of artifacts."""
        refs = (f"{Stage.GRADE}/{key}" for key in self.files.names(f"graded/{completions}"))
        found = [manifest for ref in refs if (manifest := self.manifest(ref)) is not None]
        return sorted(found, key=lambda manifest: (manifest.finished_at, manifest.key))

    def listing(self, ref: str) -> Listing:
        """Where the artifact stands, by one listing of its folder."""
        done: set[int] = set()
        failed: set[int] = set()
        found: set[str] = set()
        for name in self.files.names(self.folder(ref)):
            if name.startswith("shard-") and name.endswith(".json"):
                (failed if name.endswith(".failed.json") else done).add(int(name[6:].partition(".")[0]))
            else:
                found.add(name)
        return Listing("spec.json" in found, done, failed - done, "MANIFEST.json" in found)

    def is_complete(self, ref: str) -> bool:
        return self.files.exists(f"{self.folder(ref)}/MANIFEST.json")

    def is_published(self, ref: str, shard: int) -> bool:
        return self.files.exists(_receipt_path(self.folder(ref), shard))

    def receipt(self, ref: str, shard: int) -> Receipt:
        """Raises ArtifactMissing when the shard is not published."""
        try:
            return Receipt.model_validate(self.files.read_json(_receipt_path(self.folder(ref), shard)))
        except FileNotFoundError:
            raise ArtifactMissing(f"Shard {shard} of {ref} is not there.", "It will be made again.") from None

    def failure(self, ref: str, shard: int) -> Failure:
        """Raises NotFound when the shard has not failed."""
        try:
            return Failure.model_validate(self.files.read_json(f"{self.folder(ref)}/shard-{shard:05d}.failed.json"))
        except FileNotFoundError:
            raise NotFound(f"Shard {shard} of {ref} has not failed.") from None

    def parts(self, ref: str) -> tuple[FilePart, ...]:
        """All parts of a complete artifact. Raises ArtifactMissing."""
        manifest = self.manifest(ref)
        if manifest is None:
            raise ArtifactMissing(f"{ref} is not complete.", "It will be made again.")
        return manifest.parts

    def part(self, ref: str, index: int) -> FilePart:
        """Part `index`; of an artifact that is still being made shard by shard, the one part of shard `index`."""
        manifest = self.manifest(ref)
        parts = manifest.parts[index : index + 1] if manifest else self.receipt(ref, index).parts
        if not parts:
            raise ArtifactMissing(f"{ref} has no part {index}.", "It will be made again.")
        return parts[0]

    def read_part(
        self, ref: str, part: FilePart, schema: pa.Schema, *, columns: list[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows of one part, in batches of at most ROWS_PER_BATCH.

        Raises CorruptShard (after setting the file and its receipt aside) when its bytes are not those of the receipt.
        """
        self.verify(ref, part)
        names = columns or schema.names
        wanted = pa.schema([schema.field(name) for name in names])
        with self.files.open(f"{self.folder(ref)}/{part.name}") as file:
            reader = pq.ParquetFile(file, page_checksum_verification=True, pre_buffer=False)
            for batch in reader.iter_batches(batch_size=ROWS_PER_BATCH, columns=names):
                yield from conform(batch, wanted).to_batches()

    def read(
        self, ref: str, schema: pa.Schema, *, part: int | None = None, columns: list[str] | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows of part number `part`, or of all tables of a complete artifact in order (files beside them are no rows)."""
        parts = self.parts(ref) if part is None else (self.part(ref, part),)
        for one in parts:
            if one.rows is None:
                continue
            yield from self.read_part(ref, one, schema, columns=columns)

    def verify(self, ref: str, part: FilePart) -> None:
        """Raises CorruptShard, after setting the file aside, when it is missing or its SHA-256 differs."""
        path = f"{self.folder(ref)}/{part.name}"
        with contextlib.suppress(FileNotFoundError), self.files.open(path) as file:
            if hashlib.file_digest(file, "sha256").hexdigest() == part.sha256:
                return
        self._set_aside(ref, part)
        raise CorruptShard(f"{part.name} of {ref} is damaged or missing.", "It was set aside and will be made again.")

    def _set_aside(self, ref: str, part: FilePart) -> None:
        """The damaged file, its receipt and the manifest get other names: the shard counts as not made.

        When another worker has already replaced the part, only this process' memory of the old manifest goes.
        """
        folder = self.folder(ref)
        self._manifests.pop(ref, None)
        fresh = self.manifest(ref)
        if fresh and part not in fresh.parts:
            return
        self._manifests.pop(ref, None)
        self.files.move(f"{folder}/MANIFEST.json", f"{folder}/corrupt-{time.time_ns()}-MANIFEST.json")
        for shard in self.listing(ref).done:
            if part.name in {one.name for one in self.receipt(ref, shard).parts}:
                self.files.move(
                    _receipt_path(folder, shard), f"{folder}/corrupt-{time.time_ns()}-shard-{shard:05d}.json"
                )
        self.files.move(f"{folder}/{part.name}", f"{folder}/corrupt-{time.time_ns()}-{part.name.replace('/', '_')}")


def _receipt_path(folder: str, shard: int) -> str:
    return f"{folder}/shard-{shard:05d}.json"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
