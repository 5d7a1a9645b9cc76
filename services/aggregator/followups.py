"""Statuses that change without a result of their own: a window began or ended, a dependency went down or came back, it calmed down.

And that of the whole, where definitions and incidents changed it.
"""

from datetime import datetime

from services.aggregator import circumstances, silence, statuses, store
from services.aggregator.domain.muting import USUAL, Flapping
from shared import inbox
from shared.contracts.checks import CheckerIsolatedV1, CheckerRecoveredV1
from shared.contracts.maintenance import Maintenance
from shared.database import Connection, Pool, transaction

AT_ONCE = 200
"""Most services judged again in one transaction, so that a great window does not lock everything for long."""


async def hear_maintenance(conn: Connection, event_id: str, window: Maintenance) -> None:
    """Keep what is said of a maintenance window. What is older than what is known changes nothing."""
    if await inbox.claim(conn, event_id):
        await circumstances.save_window(conn, window)


async def hear_checker(pool: Pool, told: CheckerIsolatedV1 | CheckerRecoveredV1) -> None:
    """Note whether a checker is isolated. What it saw last is silent from the next look for silence on: `usecases.declare_silent`."""
    async with transaction(pool) as conn:
        await silence.see_checker(conn, told)


async def recheck(pool: Pool, *, now: datetime, flapping: Flapping = USUAL) -> int:
    """Judge services again whose circumstances changed; return how many. Any number of replicas may: each takes what nobody has.

    What was asked for is forgotten in the transaction that acts upon it, so a crash forgets nothing.
    """
    async with transaction(pool) as conn:
        asked = await circumstances.claim(conn, limit=AT_ONCE, now=now)
        calmed = await circumstances.calmed(conn, since=now - flapping.window, calm=flapping.calm)
        if not asked and not calmed:
            return 0
        services = await store.lock_services(conn, [*asked, *calmed])
        regions = await store.regions(conn, services)
        if await statuses.judge(conn, services.values(), regions, now=now, flapping=flapping):
            await statuses.refresh_system(conn, now=now)
    return len(asked) + len(calmed)


async def recheck_whole(pool: Pool, *, now: datetime) -> int:
    """Bring the status of the whole up to date once for all changes that ask for it; return how many did."""
    async with transaction(pool) as conn:
        asked = await circumstances.claim_whole(conn)
        if asked:
            await statuses.refresh_system(conn, now=now)
    return asked
