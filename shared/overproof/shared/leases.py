"""Leases, attempts, sent times and live progress in Redis; all of it may vanish, and only time is lost.

Expiry is Redis' own (`PX`), so no worker's clock matters. Keys, below `overproof:`:

    lease:<ref>/<shard>     owner, expires by itself
    attempts:<ref>/<shard>  how often the shard was begun
    error:<ref>/<shard>     the last retryable error, for the failure record of a shard that never ends
    halted:<ref>            nobody wants this artifact now (cancelled, paused): claims are refused, leases end
    sent:<queue>            sorted set: when each shard's message was sent, in Redis time; gone once it is claimed
    gave_up:<queue>         sorted set: when a shard was last given up for a reason that may pass
    progress:<ref>          hash: what a shard under way has reached
"""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from collections.abc import Iterator
from enum import StrEnum
from typing import Any, NamedTuple

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.retry import Retry

from overproof.shared.errors import BrokerUnavailable

PREFIX = "overproof:"
ATTEMPTS_SECONDS = 7 * 86_400
PROGRESS_SECONDS = 600

# KEYS: lease, attempts, halted, sent. ARGV: owner, lease ms, attempts allowed, seconds to remember attempts, member of sent.
CLAIM = """
redis.call('ZREM', KEYS[4], ARGV[5])
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

# KEYS: the sorted set. ARGV: member. Marks it with Redis' time.
MARK = "local t = redis.call('TIME') redis.call('ZADD', KEYS[1], t[1] + t[2] / 1000000, ARGV[1])"


class Claim(StrEnum):
    """Answer to a claim."""

    OK = "ok"
    BUSY = "busy"
    HALTED = "halted"
    POISON = "poison"


class Seen(NamedTuple):
    """What Redis knows of one shard."""

    leased: bool
    seconds_since_sent: float | None
    """Since its message was sent, while nobody has claimed it."""
    attempts: int
    seconds_since_error: float | None
    """Since a worker gave it up for a reason that may pass."""


class QueueFigures(NamedTuple):
    """A queue, for dashboards and scaling."""

    waiting: int
    """Messages that no worker has taken yet."""
    taken: int
    """Messages that a worker has taken and not acknowledged."""
    oldest_seconds: float
    """Since the message was sent that has waited longest for a worker; 0 when none waits."""


@contextlib.contextmanager
def _broker() -> Iterator[None]:
    try:
        yield
    except redis.RedisError as error:
        raise BrokerUnavailable(f"Redis does not answer: {error}.", "Start it, or set OVERPROOF_REDIS_URL.") from error


class Leases:
    """The only code that speaks to Redis besides Celery. Every method raises BrokerUnavailable when Redis does not answer."""

    def __init__(
        self,
        redis_url: str,
        lease_seconds: float = 30.0,
        max_attempts: int = 5,
        *,
        timeout_seconds: float = 10.0,
        retries: int = 3,
    ) -> None:
        """A caller that somebody waits for gives a short `timeout_seconds` and no `retries`."""
        self._redis: Any = redis.Redis.from_url(
            redis_url,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=min(5.0, timeout_seconds),
            retry=Retry(ExponentialWithJitterBackoff(base=1, cap=10), retries),
            health_check_interval=25,
            decode_responses=True,
        )
        self._milliseconds = int(lease_seconds * 1000)
        self._max_attempts = max_attempts
        self._claim = self._redis.register_script(CLAIM)
        self._renew = self._redis.register_script(RENEW)
        self._release = self._redis.register_script(RELEASE)
        self._mark = self._redis.register_script(MARK)

    def ping(self) -> None:
        with _broker():
            self._redis.ping()

    # --- a worker's side -----------------------------------------------------------------------------------------

    def claim(self, queue: str, ref: str, shard: int, owner: str) -> Claim:
        """Take the shard, if nobody has it, it is wanted, and it was not begun too often."""
        keys = [_key("lease", ref, shard), _key("attempts", ref, shard), _key("halted", ref), _key("sent", queue)]
        args: list[str | int] = [owner, self._milliseconds, self._max_attempts, ATTEMPTS_SECONDS, f"{ref}/{shard}"]
        with _broker():
            return Claim(self._claim(keys=keys, args=args))

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

    def note_error(self, queue: str, ref: str, shard: int, message: str) -> None:
        """The shard was given up for a reason that may pass; it is sent again after a pause that grows with the attempts."""
        with _broker():
            self._redis.set(_key("error", ref, shard), message, ex=ATTEMPTS_SECONDS)
            self._mark(keys=[_key("gave_up", queue)], args=[f"{ref}/{shard}"])

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

    def forget(self, queue: str, ref: str, shards: list[int]) -> None:
        """Shards that are done need no memory."""
        if shards:
            members = [f"{ref}/{shard}" for shard in shards]
            with _broker():
                self._redis.zrem(_key("sent", queue), *members)
                self._redis.zrem(_key("gave_up", queue), *members)

    def look(self, queue: str, ref: str, shards: list[int]) -> dict[int, Seen]:
        """What Redis knows of each shard, in one round trip."""
        if not shards:
            return {}
        members = [f"{ref}/{shard}" for shard in shards]
        with _broker():
            pipe = self._redis.pipeline(transaction=False)
            pipe.time()
            pipe.mget([_key("lease", ref, shard) for shard in shards])
            pipe.mget([_key("attempts", ref, shard) for shard in shards])
            pipe.zmscore(_key("sent", queue), members)
            pipe.zmscore(_key("gave_up", queue), members)
            (seconds, micros), owners, attempts, sent, gave_up = pipe.execute()
        now = seconds + micros / 1e6
        ages = [[None if at is None else max(0.0, now - float(at)) for at in times] for times in (sent, gave_up)]
        return {
            shard: Seen(owner is not None, sent_age, int(n or 0), error_age)
            for shard, owner, n, sent_age, error_age in zip(shards, owners, attempts, *ages, strict=True)
        }

    def waiting(self, queue: str) -> int:
        """Messages in the queue that no worker has taken yet."""
        with _broker():
            return int(self._redis.llen(f"{PREFIX}{queue}"))

    def taken(self, queue: str) -> int:
        """Messages that a worker has taken and not acknowledged."""
        with _broker():
            return int(self._redis.hlen(f"{PREFIX}unacked:{queue}"))

    def figures(self, queue: str) -> QueueFigures:
        """The queue's length and age, in one round trip."""
        with _broker():
            pipe = self._redis.pipeline(transaction=False)
            pipe.time()
            pipe.llen(f"{PREFIX}{queue}")
            pipe.hlen(f"{PREFIX}unacked:{queue}")
            pipe.zrange(_key("sent", queue), 0, 0, withscores=True)
            (seconds, micros), waiting, taken, oldest = pipe.execute()
        age = seconds + micros / 1e6 - float(oldest[0][1]) if oldest and waiting else 0.0
        return QueueFigures(int(waiting), int(taken), max(0.0, age))

    def leased(self) -> dict[str, int]:
        """How many shards are under way, by stage. Scans all keys: for a scrape, not for a loop."""
        prefix = _key("lease", "")
        with _broker():
            keys = [str(key) for key in self._redis.scan_iter(match=f"{prefix}*", count=1000)]
        return dict(Counter(key.removeprefix(prefix).partition("/")[0] for key in keys))

    def halt(self, ref: str) -> None:
        """Nobody wants the artifact now: its workers stop at their next heartbeat."""
        with _broker():
            self._redis.set(_key("halted", ref), "1")

    def unhalt(self, ref: str) -> None:
        with _broker():
            self._redis.delete(_key("halted", ref))

    def forgive(self, ref: str) -> None:
        """Forget the attempts of all shards, so that failed ones may be tried again."""
        with _broker():
            keys = list(self._redis.scan_iter(match=_key("attempts", ref, "*"), count=1000))
            if keys:
                self._redis.delete(*keys)

    def lead(self, name: str, owner: str, seconds: float) -> bool:
        """Be, or stay, the one process that does `name`; lapses by itself."""
        with _broker():
            return bool(
                self._renew(keys=[_key("leader", name), _key("halted", "leader")], args=[owner, int(seconds * 1000)])
            )

    def step_down(self, name: str, owner: str) -> None:
        """Let another lead at once."""
        with _broker():
            self._release(keys=[_key("leader", name), _key("attempts", "leader")], args=[owner, 0])

    def leader(self, name: str) -> str | None:
        """Who does `name` now; None when nobody has said so lately."""
        with _broker():
            owner = self._redis.get(_key("leader", name))
            return None if owner is None else str(owner)


def _key(kind: str, *parts: str | int) -> str:
    return f"{PREFIX}{kind}:" + "/".join(str(part) for part in parts)
