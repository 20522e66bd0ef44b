"""Leases, attempts, sent times and live progress in Redis; all of it may vanish, and only time is lost.

Expiry is Redis' own (`PX`), so no worker's clock matters. Keys, below `overproof:`:

    lease:<ref>/<shard>     owner, expires by itself
    attempts:<ref>/<shard>  how often the shard was begun
    error:<ref>/<shard>     the last retryable error, for the failure record of a shard that never ends
    halted:<ref>            nobody wants this artifact now (cancelled, paused): claims are refused, leases end
    sent:<queue>            sorted set: when each shard's message was sent, in Redis time
    progress:<ref>          hash: what a shard under way has reached
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple

import redis
from overproof.shared.errors import BrokerUnavailable

PREFIX = "overproof:"
ATTEMPTS_SECONDS = 7 * 86_400
PROGRESS_SECONDS = 600

# KEYS: lease, attempts, halted. ARGV: owner, lease ms, attempts allowed, seconds to remember attempts.
CLAIM = """
if redis.call('EXISTS', KEYS[3]) == 1 then return 'halted' end
if redis.call('EXISTS', KEYS[1]) == 1 then return 'busy' end
local n = redis.call('INCR', KEYS[2])
redis.call('EXPIRE', KEYS[2], ARGV[4])
if n > tonumber(ARGV[3]) then return 'poison' end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 'ok'
"""

# KEYS: lease, halted. ARGV: owner, lease ms. A lease that vanished with Redis' memory is taken again.
RENEW = """
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

# KEYS: lease, attempts. ARGV: owner, 1 if the attempt is not to count.
RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
if ARGV[2] == '1' and tonumber(redis.call('GET', KEYS[2]) or '0') > 0 then redis.call('DECR', KEYS[2]) end
"""

# KEYS: the sorted set. ARGV: member. Marks it sent now, in Redis time.
MARK_SENT = "local t = redis.call('TIME') redis.call('ZADD', KEYS[1], t[1] + t[2] / 1000000, ARGV[1])"


class Claim(StrEnum):
    """Answer to a claim."""

    OK = "ok"
    BUSY = "busy"
    HALTED = "halted"
    POISON = "poison"


class Sent(NamedTuple):
    """What Redis knows of one shard."""

    leased: bool
    seconds_since_sent: float | None


@contextlib.contextmanager
def _broker() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise BrokerUnavailable(f"Redis does not answer: {error}.", "Start it, or set OVERPROOF_REDIS_URL.") from error


class Leases:
    """The only code that speaks to Redis besides Celery. Every method raises BrokerUnavailable when Redis does not answer."""

    def __init__(self, redis_url: str, lease_seconds: float = 30.0, max_attempts: int = 5) -> None:
        self._redis: Any = redis.Redis.from_url(
            redis_url, socket_timeout=10, socket_connect_timeout=5, health_check_interval=25, decode_responses=True
        )
        self._milliseconds = int(lease_seconds * 1000)
        self._max_attempts = max_attempts
        self._claim = self._redis.register_script(CLAIM)
        self._renew = self._redis.register_script(RENEW)
        self._release = self._redis.register_script(RELEASE)
        self._mark = self._redis.register_script(MARK_SENT)

    def ping(self) -> None:
        with _broker():
            self._redis.ping()

    # --- a worker's side -----------------------------------------------------------------------------------------

    def claim(self, ref: str, shard: int, owner: str) -> Claim:
        """Take the shard, if nobody has it, it is wanted, and it was not begun too often."""
        keys = [_key("lease", ref, shard), _key("attempts", ref, shard), _key("halted", ref)]
        with _broker():
            return Claim(self._claim(keys=keys, args=[owner, self._milliseconds, self._max_attempts, ATTEMPTS_SECONDS]))

    def renew(self, ref: str, shard: int, owner: str) -> bool:
        """Whether the shard is still this owner's."""
        with _broker():
            return bool(
                self._renew(keys=[_key("lease", ref, shard), _key("halted", ref)], args=[owner, self._milliseconds])
            )

    def release(self, ref: str, shard: int, owner: str, *, count_attempt: bool = True) -> None:
        """Give the shard back; a worker that was only asked to stop does not use up an attempt."""
        with _broker():
            self._release(
                keys=[_key("lease", ref, shard), _key("attempts", ref, shard)], args=[owner, int(not count_attempt)]
            )

    def attempts(self, ref: str, shard: int) -> int:
        with _broker():
            return int(self._redis.get(_key("attempts", ref, shard)) or 0)

    def note_error(self, ref: str, shard: int, message: str) -> None:
        with _broker():
            self._redis.set(_key("error", ref, shard), message, ex=ATTEMPTS_SECONDS)

    def last_error(self, ref: str, shard: int) -> str | None:
        with _broker():
            value = self._redis.get(_key("error", ref, shard))
            return None if value is None else str(value)

    def report(self, ref: str, shard: int, progress: dict[str, Any]) -> None:
        """Live progress of a shard under way, for display."""
        with _broker():
            key = _key("progress", ref)
            self._redis.hset(key, str(shard), json.dumps(progress))
            self._redis.expire(key, PROGRESS_SECONDS)

    def clear_report(self, ref: str, shard: int) -> None:
        with _broker():
            self._redis.hdel(_key("progress", ref), str(shard))

    # --- the pipeline's and the gateway's side --------------------------------------------------------------------

    def progress(self, ref: str) -> dict[int, dict[str, Any]]:
        """Live progress by shard."""
        with _broker():
            return {
                int(shard): json.loads(value) for shard, value in self._redis.hgetall(_key("progress", ref)).items()
            }

    def mark_sent(self, queue: str, ref: str, shard: int) -> None:
        with _broker():
            self._mark(keys=[_key("sent", queue)], args=[f"{ref}/{shard}"])

    def forget_sent(self, queue: str, ref: str, shards: list[int]) -> None:
        if shards:
            with _broker():
                self._redis.zrem(_key("sent", queue), *[f"{ref}/{shard}" for shard in shards])

    def look(self, queue: str, ref: str, shards: list[int]) -> dict[int, Sent]:
        """For each shard: is it leased, and how long ago was its message sent (None: never, or forgotten)."""
        if not shards:
            return {}
        with _broker():
            pipe = self._redis.pipeline(transaction=False)
            pipe.time()
            pipe.mget([_key("lease", ref, shard) for shard in shards])
            pipe.zmscore(_key("sent", queue), [f"{ref}/{shard}" for shard in shards])
            (seconds, micros), owners, times = pipe.execute()
        now = seconds + micros / 1e6
        return {
            shard: Sent(owner is not None, None if sent is None else max(0.0, now - float(sent)))
            for shard, owner, sent in zip(shards, owners, times, strict=True)
        }

    def queue_length(self, queue: str) -> int:
        """Messages that wait or are held by a worker that has not acknowledged them."""
        with _broker():
            return int(self._redis.llen(f"{PREFIX}{queue}")) + int(self._redis.hlen(f"{PREFIX}unacked:{queue}"))

    def halt(self, ref: str) -> None:
        """Nobody wants the artifact now: its workers stop at their next heartbeat."""
        with _broker():
            self._redis.set(_key("halted", ref), "1")

    def unhalt(self, ref: str) -> None:
        with _broker():
            self._redis.delete(_key("halted", ref))

    def forgive(self, ref: str, shards: list[int]) -> None:
        """Forget the attempts, so that failed shards may be tried again."""
        if shards:
            with _broker():
                self._redis.delete(*[_key("attempts", ref, shard) for shard in shards])

    def lead(self, name: str, owner: str, seconds: float) -> bool:
        """Be, or stay, the one process that does `name`; lapses by itself."""
        with _broker():
            return bool(
                self._renew(keys=[_key("leader", name), _key("halted", "leader")], args=[owner, int(seconds * 1000)])
            )


def _key(kind: str, *parts: str | int) -> str:
    return f"{PREFIX}{kind}:" + "/".join(str(part) for part in parts)
