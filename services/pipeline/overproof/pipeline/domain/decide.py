"""What to do next: pure functions of the plan and of what storage and Redis say."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from overproof.pipeline.domain.nodes import Node

MAX_OUTSTANDING = 256
"""Messages of one run in one queue: enough for forty workers, few enough that a wiped Redis costs a moment."""
LOST_AFTER_SECONDS = 5.0
"""A message sent this long ago that nobody has claimed, while the queue is empty, is lost (Redis was wiped, a worker died with it)."""
RESEND_AFTER_SECONDS = 600.0
"""An unclaimed message is sent again after this long even when the queue is not empty; a second one costs a worker a millisecond."""
FIRST_BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF_SECONDS = 60.0


class Look(NamedTuple):
    """What Redis knows of one shard that is neither published nor failed."""

    leased: bool = False
    seconds_since_sent: float | None = None
    """Since its message was sent, while nobody has claimed it; None otherwise."""
    attempts: int = 0
    seconds_since_error: float | None = None
    """Since a worker gave it up for a reason that may pass."""


class View(NamedTuple):
    """What storage says of one artifact."""

    complete: bool = False
    declared: bool = False
    """A shard of it was asked for."""
    n_shards: int | None = None
    """None until the artifact that it is cut like is complete."""
    done: frozenset[int] = frozenset()
    failed: frozenset[int] = frozenset()


class Send(NamedTuple):
    """Ask for these shards of an artifact."""

    node: Node
    shards: tuple[int, ...]


class Close(NamedTuple):
    """All shards are published: write the manifest."""

    node: Node
    n_shards: int


class Broken(NamedTuple):
    """A shard failed for good."""

    node: Node
    shard: int


def first_broken(nodes: Sequence[Node], views: Mapping[str, View]) -> Broken | None:
    """The first shard, in plan order, that will not be tried again; its run has failed."""
    return next((Broken(node, min(views[node.ref].failed)) for node in nodes if views[node.ref].failed), None)


def ready(node: Node, views: Mapping[str, View]) -> list[int]:
    """Shards that are neither published nor failed and whose inputs are all there, in order."""
    view = views[node.ref]
    if view.complete or view.n_shards is None or not all(views[ref].complete for ref in node.after):
        return []
    missing = [shard for shard in range(view.n_shards) if shard not in view.done and shard not in view.failed]
    inputs = [views[ref] for ref in node.along]
    return [shard for shard in missing if all(one.complete or shard in one.done for one in inputs)]


def candidates(
    nodes: Sequence[Node], views: Mapping[str, View], looks: Mapping[tuple[str, int], Look]
) -> Iterator[tuple[Node, list[int]]]:
    """Nodes with ready shards, in plan order; a model waits for the models before it to have no shard left to begin.

    Loading a large model takes a minute: a worker that got two models' shards in turn would load all day. So within a run a
    node that samples another model than an unfinished node before it has to wait, until workers have all shards of that one. Then
    a worker without one may go on to the next model; one that still has some keeps their model until they are made.

    `looks` is read after a node was given out: who has not asked Redis yet may add that node's shards before taking the next one.
    """
    unfinished: str | None = None
    for node in nodes:
        shards = ready(node, views)
        if shards and (node.model is None or unfinished in (None, node.model)):
            yield node, shards
        if node.model and unfinished is None and _has_work_ahead(node, views, shards, looks):
            unfinished = node.model


def _has_work_ahead(
    node: Node, views: Mapping[str, View], shards: list[int], looks: Mapping[tuple[str, int], Look]
) -> bool:
    """Whether shards of this node are still to begin: ready ones that no worker has, or ones whose inputs are being made."""
    view = views[node.ref]
    if view.complete or not all(views[ref].complete for ref in node.after):
        return False
    under_way = sum(looks.get((node.ref, shard), Look()).leased for shard in shards)
    return len(view.done) + len(view.failed) + under_way < (view.n_shards or 0)


def finished(nodes: Iterable[Node], views: Mapping[str, View]) -> list[Close]:
    """Artifacts whose shards are all published and that have no manifest yet."""
    found = []
    for node in nodes:
        view = views[node.ref]
        if not view.complete and view.n_shards is not None and len(view.done) >= view.n_shards:
            found.append(Close(node, view.n_shards))
    return found


def decide(
    nodes: Sequence[Node],
    views: Mapping[str, View],
    looks: Mapping[tuple[str, int], Look],
    waiting: Mapping[str, int],
    paid_room: int | None = None,
) -> list[Send]:
    """Which shards to ask for now. Doing it twice does no harm.

    `looks` has an entry for each candidate shard; `waiting` is the number of messages that wait in each queue; no more than
    `paid_room` shards that cost money are under way.
    """
    sends = []
    standing = [(node, _standing(node, shards, looks, waiting)) for node, shards in candidates(nodes, views, looks)]
    room = {node.queue: MAX_OUTSTANDING for node in nodes}
    paid = MAX_OUTSTANDING if paid_room is None else paid_room
    for node, one in standing:
        room[node.queue] -= one.n_out
        paid -= one.n_out if node.is_paid else 0
    for node, one in standing:
        most = min(room[node.queue], paid) if node.is_paid else room[node.queue]
        chosen = one.free[: max(0, most)]
        room[node.queue] -= len(chosen)
        paid -= len(chosen) if node.is_paid else 0
        if chosen:
            sends.append(Send(node, chosen))
    return sends


class Standing(NamedTuple):
    """The candidate shards of one node."""

    n_out: int
    """Under way, or their messages."""
    free: tuple[int, ...]
    """May be asked for now."""


def _standing(
    node: Node, shards: list[int], looks: Mapping[tuple[str, int], Look], waiting: Mapping[str, int]
) -> Standing:
    states = [(shard, looks.get((node.ref, shard), Look())) for shard in shards[: 2 * MAX_OUTSTANDING]]
    out = {shard for shard, look in states if is_outstanding(look, waiting.get(node.queue, 0))}
    free = tuple(shard for shard, look in states if shard not in out and not is_backing_off(look))
    return Standing(len(out), free)


def is_outstanding(look: Look, waiting: int) -> bool:
    """Whether a worker has the shard, or its message is still on the way."""
    if look.leased:
        return True
    if look.seconds_since_sent is None:
        return False
    patience = LOST_AFTER_SECONDS if waiting == 0 else RESEND_AFTER_SECONDS
    return look.seconds_since_sent < patience


def is_backing_off(look: Look) -> bool:
    """Whether it is too soon to try again: 1, 2, 4, ... up to 60 seconds after each error."""
    if look.seconds_since_error is None:
        return False
    doublings = min(10, max(0, look.attempts - 1))
    wait = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0**doublings)
    return look.seconds_since_error < wait


def add_notes(notes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Receipts' notes added up: numbers are summed (names with `max_` take the largest), dicts by key, the last text stands."""
    total: dict[str, Any] = {}
    for one in notes:
        for name, value in one.items():
            total[name] = _added(name, total.get(name), value)
    return total


def _added(name: str, old: Any, new: Any) -> Any:
    if isinstance(new, dict):
        merged = dict(old or {})
        for key, value in new.items():
            merged[key] = _added(key, merged.get(key), value)
        return merged
    if isinstance(new, int | float) and not isinstance(new, bool):
        return max(old or 0, new) if name.startswith("max_") else (old or 0) + new
    return new


class Span(NamedTuple):
    """Of time; Unix seconds."""

    start: float
    end: float

    def with_(self, other: Span) -> Span:
        """From the earlier start to the later end."""
        return Span(min(self.start, other.start), max(self.end, other.end))


def most_at_once(spans: Iterable[Span]) -> int:
    """How many of them overlap at some moment; one that begins as another ends does not overlap it."""
    steps = sorted(step for span in spans for step in ((span.start, 1), (span.end, -1)))
    return max(accumulate((step for _, step in steps), initial=0))


def busy_share(intervals: Sequence[tuple[float, float]], busy_seconds: float, workers: int) -> float | None:
    """Model-busy seconds / (wall seconds in which sampling was under way × workers); None before anything was sampled."""
    wall = _union(sorted(intervals))
    return busy_seconds / (wall * max(1, workers)) if wall > 0 else None


def _union(intervals: Sequence[tuple[float, float]]) -> float:
    total, end = 0.0, float("-inf")
    for start, stop in intervals:
        total += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return total
