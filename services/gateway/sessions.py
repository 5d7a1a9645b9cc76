"""Whose request it is, without asking the database each time; how often somebody may try to come in, or call a secret address."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from services.gateway import store
from services.gateway.cache import Cache
from services.gateway.database import Database
from services.gateway.domain.people import Identity
from services.gateway.usecases import token_hash
from shared.clock import Clock
from shared.database import is_transient

MOST = 10_000
ATTEMPTS_WITHIN_S = 300
PACE_WITHIN_S = 60
NAMES = 10
"""How many times the attempts of one name an address has, over all names."""


@dataclass(frozen=True, slots=True)
class _Known:
    identity: Identity
    asked_at: float


class Sessions:
    """Sessions seen lately. One ended elsewhere is believed for `cache_s` seconds more; for `grace_s` while the database is away."""

    def __init__(
        self, database: Database, *, clock: Clock, cache_s: float, grace_s: float, timer: Callable[[], float] = time.monotonic
    ) -> None:
        """`timer` gives seconds that only grow."""
        self._database = database
        self._clock = clock
        self._cache_s = cache_s
        self._grace_s = grace_s
        self._timer = timer
        self._known: dict[bytes, _Known] = {}

    async def who(self, token: str, *, reading: bool) -> Identity | None:
        """Return whose session a token is, or None. Raises what a database that is away raises, unless it is a read within the grace."""
        key = token_hash(token)
        known = self._known.get(key)
        if known is not None and known.identity.expires_at <= self._clock():
            self.forget(token)
            return None
        age = self._timer() - known.asked_at if known else 0.0
        if known is not None and age < self._cache_s:
            return known.identity
        try:
            async with self._database.transaction() as conn:
                identity = await store.session(conn, key, now=self._clock())
        except Exception as error:
            if known is not None and reading and age < self._grace_s and is_transient(error):
                return known.identity
            raise
        self._remember(key, identity)
        return identity

    def forget(self, token: str) -> None:
        """Ask the database again next time."""
        self._known.pop(token_hash(token), None)

    def _remember(self, key: bytes, identity: Identity | None) -> None:
        self._known.pop(key, None)
        if identity is None:
            return
        if len(self._known) >= MOST:
            del self._known[next(iter(self._known))]
        self._known[key] = _Known(identity, self._timer())


class Attempts:
    """Counts sign-ins per user name and address, and per address over all names."""

    def __init__(self, cache: Cache, *, most: int) -> None:
        """Allow `most` in five minutes for a name, `NAMES` times as many for an address."""
        self._counts = Counts(cache, within_s=ATTEMPTS_WITHIN_S)
        self._most = most

    async def allowed(self, username: str, address: str) -> bool:
        """Count one more attempt; say whether it may be made."""
        by_name = await self._counts.add(self._key(username, address), 1)
        by_address = await self._counts.add(self._key("", address), 1)
        return by_name <= self._most and by_address <= self._most * NAMES

    async def taken_back(self, username: str, address: str) -> None:
        """Count an attempt no longer that was right, or that no password was checked for."""
        await self._counts.add(self._key(username, address), -1)
        await self._counts.add(self._key("", address), -1)

    async def succeeded(self, username: str, address: str) -> None:
        """Begin to count a name anew after a sign-in that was right; the address gets back this one."""
        await self._counts.forget(self._key(username, address))
        await self._counts.add(self._key("", address), -1)

    def _key(self, username: str, address: str) -> str:
        return f"sla:gateway:attempts:{token_hash(f'{username}|{address}').hex()[:32]}"


class Pace:
    """Counts the calls of secret addresses, per address called from and per secret, so that nobody can guess or flood."""

    def __init__(self, cache: Cache, *, most: int) -> None:
        """Allow `most` in a minute for a secret, `NAMES` times as many for an address: several jobs may share one."""
        self._counts = Counts(cache, within_s=PACE_WITHIN_S)
        self._most = most

    async def allowed(self, secret: str, address: str) -> bool:
        """Count one more call; say whether it may be made. The secret itself is kept nowhere."""
        by_address = await self._counts.add(self._key("address", address), 1)
        if by_address > self._most * NAMES:
            return False
        return await self._counts.add(self._key("secret", secret), 1) <= self._most

    def _key(self, what: str, value: str) -> str:
        return f"sla:gateway:pace:{what}:{token_hash(value).hex()[:32]}"


class Counts:
    """Counters that begin anew after a while: shared through Redis, else in this process."""

    def __init__(self, cache: Cache, *, within_s: int, timer: Callable[[], float] = time.monotonic) -> None:
        """Each count lasts `within_s` seconds from its first one."""
        self._cache = cache
        self._within_s = within_s
        self._timer = timer
        self._here: dict[str, tuple[float, int]] = {}

    async def add(self, key: str, by: int) -> int:
        """Count `by` more, and return how many there are."""
        here = self._add_here(key, by)
        shared = await self._cache.count(key, within_s=self._within_s, by=by)
        return max(here, shared or 0)

    async def forget(self, key: str) -> None:
        """Begin anew."""
        self._here.pop(key, None)
        await self._cache.forget(key)

    def _add_here(self, key: str, by: int) -> int:
        now = self._timer()
        began, counted = self._here.get(key, (now, 0))
        if now - began >= self._within_s:
            began, counted = now, 0
        if key not in self._here and len(self._here) >= MOST:
            del self._here[next(iter(self._here))]
        self._here[key] = (began, max(0, counted + by))
        return max(0, counted + by)
