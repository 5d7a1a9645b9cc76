"""What is to be checked, as the database has it: asked for twice a second, one row; read further only where something changed.

While the database is away, what is known goes on being checked.
"""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from prometheus_client import Gauge

from services.checker import store
from services.checker.assertions import read_assertions
from services.checker.domain.target import Target
from services.checker.probes import KINDS
from services.checker.scheduler import Scheduler
from services.checker.store import Stored
from shared.clock import Clock
from shared.database import Pool, backoff, is_transient, transaction
from shared.telemetry import logger

POLL_S = 0.5
ASK_S = 10.0
MONTHS_AHEAD = 2
PARTITIONS_EVERY_S = 86_400.0

REVISION = Gauge("sla_checker_definitions_revision", "The newest revision of the definitions that this process knows")
log = logger(__name__)


class Catalog:
    """Carries definitions from the database to the scheduler."""

    def __init__(self, pool: Pool, scheduler: Scheduler, *, woken: asyncio.Event) -> None:
        """Begin with nothing known. Setting `woken` makes it look at once: a definition was changed."""
        self._pool = pool
        self._scheduler = scheduler
        self._known = 0
        self._woken = woken

    async def run(self) -> None:
        """Look for ever; while the database is away, with growing waits."""
        waits = backoff(first_s=POLL_S, most_s=2.0)
        while True:
            try:
                async with asyncio.timeout(ASK_S):
                    await self.refresh()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning(
                    "definitions cannot be read; checking goes on with those known", reason=f"{type(error).__name__}: {error}"[:200]
                )
                await asyncio.sleep(next(waits))
            else:
                waits = backoff(first_s=POLL_S, most_s=2.0)
                await self._rest()

    async def refresh(self) -> None:
        """Hand over what changed since the last look."""
        async with self._pool.acquire() as conn:
            if await store.revision(conn) == self._known:
                return
            changed = await store.changed_since(conn, self._known)
        if not changed:
            return
        targets, gone = sort_out(changed)
        self._scheduler.apply(targets, gone)
        self._known = changed[-1].revision
        REVISION.set(self._known)
        log.info("definitions taken over", revision=self._known, checked=len(targets), not_checked=len(gone))

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._woken.wait()
        except TimeoutError:
            return
        finally:
            self._woken.clear()


def sort_out(changed: Iterable[Stored]) -> tuple[list[Target], list[str]]:
    """Return what is to be checked from now on, and the ids of what is not: removed, inactive, or of a kind that is not known here."""
    targets, gone = [], []
    for stored in changed:
        one = stored.definition
        if stored.removed_at is not None or not one.is_active or one.kind not in KINDS:
            gone.append(one.id)
            continue
        options, _flaws = KINDS[one.kind].read(one.options)
        assertions, _flaws = read_assertions(one.assertions, KINDS[one.kind])
        created_ms = int(stored.created_at.timestamp() * 1000)
        targets.append(
            Target(
                one.id,
                one.kind,
                one.endpoint_url,
                one.check_interval,
                one.timeout,
                options,
                created_ms,
                stored.revision,
                one.failure_threshold,
                one.recovery_threshold,
                one.retry_interval_ms,
                one.degraded_after_ms,
                assertions,
            )
        )
    return targets, gone


async def keep_partitions(pool: Pool, clock: Clock) -> None:
    """Make the log's months ahead of time: now, and once a day for ever."""
    waits = backoff(first_s=1.0, most_s=60.0)
    while True:
        try:
            async with transaction(pool) as conn:
                made = await store.make_partitions(conn, _months(clock()))
        except Exception as error:
            if not is_transient(error):
                raise
            log.warning("partitions cannot be made now; rows go to the default one", reason=f"{type(error).__name__}: {error}"[:200])
            await asyncio.sleep(next(waits))
            continue
        if made:
            log.info("partitions made", names=made)
        waits = backoff(first_s=1.0, most_s=60.0)
        await asyncio.sleep(PARTITIONS_EVERY_S)


def _months(now: datetime) -> list[datetime]:
    # From the last month, for a spool that was kept over the turn of one.
    first = now.astimezone(UTC).replace(day=1)
    days = [first - timedelta(days=1), first]
    for _ in range(MONTHS_AHEAD):
        days.append((days[-1].replace(day=1) + timedelta(days=32)).replace(day=1))
    return days
