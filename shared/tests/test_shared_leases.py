"""Leases: one owner at a time, no clock but Redis' own, nothing that a wipe could break."""

from __future__ import annotations

import time

import pytest

from overproof.shared.errors import BrokerUnavailable
from overproof.shared.leases import Claim, Leases

REF = "sample/" + "a" * 32
QUEUE = "inference"


@pytest.fixture
def leases(redis_url: str) -> Leases:
    return Leases(redis_url, lease_seconds=0.3, max_attempts=3)


def test_one_owner_at_a_time(leases: Leases) -> None:
    assert leases.claim(QUEUE, REF, 0, "a") is Claim.OK
    assert leases.claim(QUEUE, REF, 0, "b") is Claim.BUSY
    assert leases.claim(QUEUE, REF, 1, "b") is Claim.OK
    leases.release(REF, 0, "a")
    assert leases.claim(QUEUE, REF, 0, "b") is Claim.OK


def test_silent_owner_loses_it_and_cannot_renew(leases: Leases) -> None:
    leases.claim(QUEUE, REF, 0, "a")
    time.sleep(0.4)
    assert leases.claim(QUEUE, REF, 0, "b") is Claim.OK
    assert not leases.renew(REF, 0, "a")
    assert leases.renew(REF, 0, "b")


def test_renewal_survives_a_wipe(leases: Leases) -> None:
    leases.claim(QUEUE, REF, 0, "a")
    leases._redis.flushall()
    assert leases.renew(REF, 0, "a")
    assert leases.claim(QUEUE, REF, 0, "b") is Claim.BUSY


def test_attempts_are_capped_unless_the_worker_was_only_stopped(leases: Leases) -> None:
    for _ in range(5):
        assert leases.claim(QUEUE, REF, 0, "a") is Claim.OK
        leases.release(REF, 0, "a", count_attempt=False)
    for _ in range(3):
        assert leases.claim(QUEUE, REF, 0, "a") is Claim.OK
        leases.release(REF, 0, "a")
    assert leases.claim(QUEUE, REF, 0, "a") is Claim.POISON
    leases.forgive(REF)
    assert leases.claim(QUEUE, REF, 0, "a") is Claim.OK


def test_halted_artifact_is_refused_and_its_owner_told(leases: Leases) -> None:
    leases.claim(QUEUE, REF, 0, "a")
    leases.halt(REF)
    assert not leases.renew(REF, 0, "a")
    assert leases.claim(QUEUE, REF, 1, "b") is Claim.HALTED
    leases.unhalt(REF)
    assert leases.claim(QUEUE, REF, 1, "b") is Claim.OK


def test_look_tells_sent_leased_and_given_up(leases: Leases) -> None:
    leases.mark_sent(QUEUE, REF, 0)
    leases.mark_sent(QUEUE, REF, 1)
    leases.claim(QUEUE, REF, 1, "a")
    leases.claim(QUEUE, REF, 2, "a")
    leases.note_error(QUEUE, REF, 2, "disk full")
    leases.release(REF, 2, "a")
    seen = leases.look(QUEUE, REF, [0, 1, 2, 3])
    assert seen[0].seconds_since_sent is not None
    assert (seen[1].leased, seen[1].seconds_since_sent, seen[1].attempts) == (True, None, 1)
    assert (seen[2].leased, seen[2].seconds_since_error is not None) == (False, True)
    assert seen[3] == (False, None, 0, None)
    assert leases.last_error(REF, 2) == "disk full"
    leases.forget(QUEUE, REF, [0, 2])
    assert leases.look(QUEUE, REF, [0])[0].seconds_since_sent is None


def test_progress_comes_back_by_shard(leases: Leases) -> None:
    leases.report(REF, 3, {"tokens": 5})
    assert leases.progress(REF) == {3: {"tokens": 5}}
    leases.clear_report(REF, 3)
    assert leases.progress(REF) == {}


def test_one_leader(leases: Leases) -> None:
    assert leases.lead("pipeline", "a", 0.2)
    assert not leases.lead("pipeline", "b", 0.2)
    time.sleep(0.3)
    assert leases.lead("pipeline", "b", 0.2)


def test_unreachable_redis_is_one_sentence() -> None:
    with pytest.raises(BrokerUnavailable, match="OVERPROOF_REDIS_URL"):
        Leases("redis://127.0.0.1:1/0").ping()
