"""Redis: what makes answers faster and limits shared. Everything here may be absent; then callers do without."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from prometheus_client import Counter
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from shared.telemetry import logger

ANSWER_S = 0.5
REST_S = 1.0
"""How long Redis is left alone after it failed: nobody's request waits for it twice."""

FAILED = Counter("sla_redis_failed_total", "Questions that Redis did not answer; the answer was found without it")
log = logger(__name__)


class Cache:
    """A cache of bytes and counters. Nothing raises: without Redis there is nothing in it."""

    def __init__(self, redis: "Redis") -> None:
        """See `open_cache`."""
        self._redis = redis
        self._rest_until = 0.0

    async def get(self, key: str) -> bytes | None:
        """Return what was put, or None."""
        if self._resting():
            return None
        try:
            value = await self._redis.get(key)
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return None
        return value if isinstance(value, bytes) else None

    async def put(self, key: str, value: bytes, *, keep_s: float) -> bool:
        """Keep bytes for some seconds; say whether that worked."""
        if self._resting():
            return False
        try:
            await self._redis.set(key, value, px=int(keep_s * 1000))
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return False
        return True

    async def count(self, key: str, *, within_s: int, by: int = 1) -> int | None:
        """Count `by` more under `key` and return how many there were in the last `within_s` seconds; None without Redis."""
        if self._resting():
            return None
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                pipe.set(key, 0, ex=within_s, nx=True)
                pipe.incrby(key, by)
                _, counted = await pipe.execute()
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)
            return None
        return int(counted)

    async def forget(self, key: str) -> None:
        """Remove a key, if Redis is there."""
        if self._resting():
            return
        try:
            await self._redis.delete(key)
        except (RedisError, OSError, TimeoutError) as error:
            self._failed(error)

    def _resting(self) -> bool:
        return time.monotonic() < self._rest_until

    def _failed(self, error: Exception) -> None:
        FAILED.inc()
        if self._rest_until == 0.0 or time.monotonic() > self._rest_until + REST_S * 30:
            log.warning("going on without Redis", reason=f"{type(error).__name__}: {error}"[:200])
        self._rest_until = time.monotonic() + REST_S


@asynccontextmanager
async def open_cache(url: str, *, name: str) -> AsyncIterator[Cache]:
    """Give the cache at once; connections are made when they are needed."""
    redis = Redis.from_url(url, socket_timeout=ANSWER_S, socket_connect_timeout=ANSWER_S, retry=Retry(NoBackoff(), 0), client_name=name)
    try:
        yield Cache(redis)
    finally:
        await redis.aclose()
