"""Which shards this process holds: shared out among the checkers of its region by way of PostgreSQL, by the database's clock.

Each tick is one transaction: say that one is alive, see who else is, take what is free up to one's share. What is held beyond that share
is given up in the order that loses and doubles nothing: stop checking it here, know up to which moment its slots are done, only then
free it. While the database is away everybody keeps what they have; so a process that is cut off from the database alone goes on too, and
what others then check beside it are the same slots, which count once.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Protocol

from prometheus_client import Counter, Gauge

from services.checker.domain.shards import SHARDS, share, to_release, to_take
from shared.clock import Clock
from shared.database import Connection, Pool, backoff, is_transient, transaction
from shared.telemetry import logger

TICK_S = 0.5
TTL_S = 5.0
"""How long a checker that says nothing more is taken for alive."""
ASK_S = 3.0
"""A tick takes no longer: a lease must not run out while its renewal waits."""
RELEASE_S = 2.0
"""How long running checks are waited for before their shard goes to another checker."""
LEAVE_S = 1.0
SETTLED_MS = 250
"""A check ends, and is on the disk, some time after its slot: so far before its last word, a dead checker is taken to have done all."""

SQL_PLACES = "insert into shard_leases (region, shard) select $1::text, generate_series(0, $2::integer - 1) on conflict do nothing"
SQL_ENTER = """
insert into checkers (region, checker, covered_until) values ($1, $2, 0)
on conflict (region, checker) do update set started_at = clock_timestamp(), seen_at = clock_timestamp() returning started_at"""
# What a holder said it had looked at goes for a shard only if it held that shard when it began to say so.
SQL_TAKE_UP = """
update shard_leases as lease set covered_until = before.covered_until, taken_at = $3
  from checkers as before where lease.region = $1 and lease.holder = $2 and before.region = $1 and before.checker = $2
   and before.covered_until > lease.taken_at"""
SQL_RENEW = """
update checkers set seen_at = clock_timestamp(), covered_until = $4 where region = $1 and checker = $2 and started_at = $3 returning true"""
SQL_LIVE = "select checker from checkers where region = $1 and seen_at >= clock_timestamp() - $2::interval order by started_at, checker"
SQL_LEASES = "select shard, holder, covered_until from shard_leases where region = $1 and holder = $2"
# Locked: a member that is just coming back has its row in hand, and is passed by.
SQL_DEAD = "select checker from checkers where region = $1 and seen_at < clock_timestamp() - $2::interval for update skip locked"
SQL_TAKE = """
with picked as (
    select shard, holder, taken_at from shard_leases as lease
     where region = $1 and (holder is null or holder = any($3::text[])
                            or not exists (select from checkers where region = $1 and checker = lease.holder))
     order by holder is not null, shard limit $4 for update skip locked)
update shard_leases as lease set holder = $2, taken_at = $5, covered_until = coalesce(dead.covered_until, lease.covered_until)
  from picked left join checkers as dead
    on dead.region = $1 and dead.checker = picked.holder and dead.covered_until > picked.taken_at
 where lease.region = $1 and lease.shard = picked.shard returning lease.shard, lease.covered_until"""
SQL_RELEASE = """
update shard_leases as lease set holder = null, covered_until = freed.covered_until
  from unnest($3::smallint[], $4::bigint[]) as freed (shard, covered_until)
 where lease.region = $1 and lease.holder = $2 and lease.shard = freed.shard"""
SQL_DEPART = "delete from checkers where region = $1 and checker = $2 and started_at = $3"
SQL_FORGET = """
delete from checkers as gone where region = $1 and seen_at < clock_timestamp() - interval '1 hour'
   and not exists (select from shard_leases where region = $1 and holder = gone.checker)"""

HELD = Gauge("sla_checker_shards_held", "Shards of the region that this process holds, of 256")
MEMBERS = Gauge("sla_checker_members", "Checkers of the region that are alive, this one included")
TAKEN = Counter("sla_checker_shards_taken_total", "Shards taken over")
LOST = Counter("sla_checker_shards_lost_total", "Shards found to be another checker's, without having been given up")
log = logger(__name__)


class Holder(Protocol):
    """Who checks the services of the shards that are held."""

    def hold(self, shards: Mapping[int, int]) -> None:
        """Check these shards and no others; the value is up to which moment (ms) a shard's slots were somebody else's."""

    async def give_up(self, shards: Collection[int], within_s: float) -> Mapping[int, int]:
        """Stop checking these shards; return up to which moment (ms) the slots of each are done."""


@dataclass(frozen=True, slots=True)
class _View:
    """What a tick found: all that is held by now, and this process's share."""

    held: dict[int, int]
    fair: int
    members: int


class Leases:
    """The leases of one process. `checker` names it and its predecessors on the same spool: what they held is its own at once."""

    def __init__(
        self,
        pool: Pool,
        *,
        region: str,
        checker: str,
        holder: Holder,
        clock: Clock,
        since: Callable[[], float] = time.monotonic,
        new_name: Callable[[], str] = lambda: token_hex(4),
    ) -> None:
        """Hold nothing. `since` measures how long the database was away (seconds)."""
        self._pool = pool
        self._region, self._checker = region, checker
        self._holder = holder
        self._clock, self._since, self._new_name = clock, since, new_name
        self._started: datetime | None = None
        self._held: dict[int, int] = {}
        self._last_s = self._steady_s = float("-inf")

    @property
    def held(self) -> frozenset[int]:
        """The shards that this process holds."""
        return frozenset(self._held)

    async def run(self) -> None:
        """Tick for ever; while the database is away, with growing waits."""
        waits = backoff(first_s=TICK_S, most_s=1.0)
        while True:
            try:
                await self.tick()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning("leases cannot be renewed; checking goes on with those held", reason=f"{type(error).__name__}: {error}"[:200])
                await asyncio.sleep(next(waits))
            else:
                waits = backoff(first_s=TICK_S, most_s=1.0)
                await asyncio.sleep(TICK_S)

    async def tick(self) -> None:
        """Renew, take, and give up what is too much. Raises what the database raises."""
        async with asyncio.timeout(ASK_S):
            view = await self._look()
        lost = self._held.keys() - view.held.keys()
        if lost:
            LOST.inc(len(lost))
            log.warning("shards are another checker's by now", shards=len(lost))
        if view.held.keys() != self._held.keys():
            log.info("shards held", shards=len(view.held), share=view.fair, members=view.members)
        self._held = view.held
        self._say(view)
        self._holder.hold(self._held)
        excess = to_release(self._held, view.fair)
        if excess:
            await self._release(excess)

    async def leave(self) -> None:
        """Give everything up and depart, so that the others need not wait; if the database is away, they find out by themselves."""
        done = await self._holder.give_up(self.held, LEAVE_S)
        try:
            async with asyncio.timeout(LEAVE_S), transaction(self._pool) as conn:
                await self._free(conn, done)
                await conn.execute(SQL_DEPART, self._region, self._checker, self._started)
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("shards could not be given back; others take them over when they see it", reason=str(error))
        else:
            self._held = {}

    async def _look(self) -> _View:
        async with transaction(self._pool) as conn:
            started = await self._renew(conn)
            held = {row["shard"]: row["covered_until"] for row in await conn.fetch(SQL_LEASES, self._region, self._checker)}
            members = [row["checker"] for row in await conn.fetch(SQL_LIVE, self._region, timedelta(seconds=TTL_S))]
            fair = share(members, self._checker)
            wanted = to_take(held, fair)
            if wanted:
                dead = await self._dead(conn)
                taken = await conn.fetch(SQL_TAKE, self._region, self._checker, dead, wanted, self._now_ms())
                held |= {row["shard"]: row["covered_until"] for row in taken}
                TAKEN.inc(len(taken))
        # Not before it is committed: what the table does not have would be taken for another process's.
        self._started = started
        return _View(held, fair, len(members))

    async def _renew(self, conn: Connection) -> datetime:
        """Say that this process is alive. Where another one goes by its name by now (a copied disk), it begins anew, with nothing.

        Returns what the table has of when this process began.
        """
        now = self._since()
        if now - self._last_s > TTL_S:
            self._steady_s = now
        self._last_s = now
        started = self._started
        if started is not None:
            if await conn.fetchval(SQL_RENEW, self._region, self._checker, started, self._now_ms() - SETTLED_MS):
                return started
            log.warning("another process goes by this one's name: has its disk been copied?", checker=self._checker)
            self._checker, self._started = f"{self._checker.partition('+')[0]}+{self._new_name()}", None
        return await self._enter(conn)

    async def _enter(self, conn: Connection) -> datetime:
        await conn.execute(SQL_PLACES, self._region, SHARDS)
        await conn.execute(SQL_FORGET, self._region)
        await conn.execute(SQL_TAKE_UP, self._region, self._checker, self._now_ms())
        started: datetime = await conn.fetchval(SQL_ENTER, self._region, self._checker)
        return started

    async def _dead(self, conn: Connection) -> list[str]:
        """Return who says nothing any more; whoever was away itself cannot tell before it has seen one TTL of their silence."""
        if self._last_s - self._steady_s < TTL_S:
            return []
        return [row["checker"] for row in await conn.fetch(SQL_DEAD, self._region, timedelta(seconds=TTL_S))]

    async def _release(self, shards: Collection[int]) -> None:
        try:
            done = await self._holder.give_up(shards, RELEASE_S)
            async with asyncio.timeout(ASK_S), transaction(self._pool) as conn:
                await self._free(conn, done)
        except BaseException:
            # As far as is known nobody else may take them: they are checked here until that can be said. If it was said after all, both
            # check the same slots, which count once, until the next tick shows it.
            self._holder.hold(self._held)
            raise
        for shard in done:
            del self._held[shard]
        HELD.set(len(self._held))
        log.info("shards given up", shards=len(done))

    async def _free(self, conn: Connection, done: Mapping[int, int]) -> None:
        await conn.execute(SQL_RELEASE, self._region, self._checker, list(done), list(done.values()))

    def _now_ms(self) -> int:
        return int(self._clock().timestamp() * 1000)

    def _say(self, view: _View) -> None:
        HELD.set(len(view.held))
        MEMBERS.set(view.members)
