"""What storage says of a run's artifacts, remembered between looks so that a look costs one listing per open stage."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from overproof.pipeline.domain.decide import Span, View, add_notes
from overproof.pipeline.domain.nodes import Node
from overproof.shared.artifacts import Artifacts
from overproof.shared.errors import ArtifactMissing


class Tally:
    """Sums over the published shards of one artifact; each receipt is read once."""

    def __init__(self) -> None:
        self.shards: set[int] = set()
        self.rows = 0
        self.notes: dict[str, Any] = {}
        self.started_at: float | None = None
        self.finished_at: float | None = None
        self.owners: dict[str, Span] = {}
        """Of each worker process, from the start of its first shard to the end of its last."""

    def add(self, artifacts: Artifacts, ref: str, shards: Iterable[int]) -> None:
        """Read the receipts that are new. A shard that was set aside is counted again when it comes back, so start afresh then."""
        for shard in set(shards) - self.shards:
            try:
                receipt = artifacts.receipt(ref, shard)
            except ArtifactMissing:
                continue
            self.shards.add(shard)
            self.rows += sum(part.rows or 0 for part in receipt.parts)
            self.notes = add_notes((self.notes, receipt.notes))
            self.started_at = min(receipt.started_at, self.started_at or receipt.started_at)
            self.finished_at = max(receipt.finished_at, self.finished_at or receipt.finished_at)
            owner, span = receipt.owner.rpartition("-")[0], Span(receipt.started_at, receipt.finished_at)
            self.owners[owner] = span.with_(self.owners.get(owner, span))


class Views:
    """One look at all artifacts that a run's nodes speak of."""

    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts
        self._tallies: dict[str, Tally] = {}
        self._complete: dict[str, View] = {}

    def look(self, nodes: Iterable[Node]) -> dict[str, View]:
        """By reference, for the nodes and everything that they wait for."""
        views: dict[str, View] = {}
        for node in nodes:
            for ref in (*node.after, *node.along, *((node.shards_of,) if node.shards_of else ())):
                if ref not in views:  # made by another run
                    views[ref] = View(complete=self._artifacts.is_complete(ref))
            views[node.ref] = self._view(node)
        return views

    def tally(self, ref: str) -> Tally:
        """Sums over the shards seen by the last look."""
        return self._tallies.setdefault(ref, Tally())

    def forget(self, refs: Iterable[str]) -> None:
        """Of runs that are over."""
        for ref in refs:
            self._tallies.pop(ref, None)
            self._complete.pop(ref, None)

    def _view(self, node: Node) -> View:
        if node.ref in self._complete and self._artifacts.is_complete(node.ref):
            return self._complete[node.ref]
        names = self._artifacts.listing(node.ref)
        tally = self.tally(node.ref)
        if tally.shards - names.done:  # a shard was set aside: count again
            tally = self._tallies[node.ref] = Tally()
        tally.add(self._artifacts, node.ref, names.done)
        view = View(
            complete=names.complete,
            declared=names.declared,
            n_shards=self._n_shards(node),
            done=frozenset(names.done),
            failed=frozenset(names.failed),
        )
        self._complete.pop(node.ref, None)
        if view.complete:
            self._complete[node.ref] = view
        return view

    def _n_shards(self, node: Node) -> int | None:
        if node.shards_of is None:
            return 1
        manifest = self._artifacts.manifest(node.shards_of)
        return None if manifest is None else len(manifest.parts)
