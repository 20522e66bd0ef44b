"""Whose seconds an engine's work is, and whose sequences it runs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY

from overproof.inference import busy
from overproof.inference.busy import BusyClock, Turn
from overproof.inference.under_way import Asker, UnderWay


class Time:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    found = Time()
    monkeypatch.setattr(busy, "time", found)
    return found


def taking(time: Time, *seconds: float) -> Iterator[int]:
    """Items that each take so long to come."""
    for number, one in enumerate(seconds):
        time.now += one
        yield number


def test_waiting_for_the_engine_counts_and_what_is_done_with_its_items_does_not(time: Time) -> None:
    turn = Turn(BusyClock())
    for _ in turn.working(taking(time, 3, 4)):
        time.now += 50
    assert turn.seconds == 7


def test_seconds_of_two_shards_at_once_are_halved(time: Time) -> None:
    clock = BusyClock()
    first, second = Turn(clock), Turn(clock)
    clock.enter(first)
    time.now += 10
    clock.enter(second)
    time.now += 6
    clock.leave(first)
    time.now += 5
    clock.leave(second)
    time.now += 100
    assert (first.seconds, second.seconds) == (13, 8)


def test_time_that_the_engine_waits_for_prompts_is_not_its_own(time: Time) -> None:
    turn = Turn(BusyClock())

    def engine(prompts: Iterator[int]) -> Iterator[int]:
        for prompt in prompts:
            time.now += 2
            yield prompt

    assert list(turn.working(engine(turn.resting(taking(time, 30, 30))))) == [0, 1]
    assert turn.seconds == 4


def test_shard_that_breaks_waits_no_longer(time: Time) -> None:
    clock = BusyClock()
    broken, other = Turn(clock), Turn(clock)

    def breaks() -> Iterator[int]:
        time.now += 2
        raise ValueError("broken")
        yield 0

    with pytest.raises(ValueError, match="broken"):
        list(broken.working(breaks()))
    clock.enter(other)
    time.now += 8
    clock.leave(other)
    assert (broken.seconds, other.seconds) == (2, 8)


def gauges(role: str) -> tuple[float | None, float | None]:
    labels = {"role": role, "stage": "sample"}
    return tuple(REGISTRY.get_sample_value(f"overproof_sequences_{name}", labels) for name in ("running", "waiting"))  # type: ignore[return-value]


def test_sequences_beyond_the_engine_s_places_wait() -> None:
    under_way, teacher, student = UnderWay(8), Asker("teacher", "sample"), Asker("student", "sample")
    under_way.change(teacher, 6)
    assert gauges("teacher") == (6, 0)
    under_way.change(student, 10)
    assert gauges("teacher") == (3, 3)
    assert gauges("student") == (5, 5)
    under_way.change(student, -10)
    under_way.change(teacher, -6)
    assert gauges("teacher") == gauges("student") == (0, 0)
