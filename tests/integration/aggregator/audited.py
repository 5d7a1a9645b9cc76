"""A service that was watched over twenty slots, and dry runs over its checks: for tests of what is told about the past."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta

from services.aggregator import audits, replays
from shared.contracts.history import DryRun, DryRunQuery
from shared.contracts.sla import StateInterval
from shared.database import Connection, Pool
from tests.integration.aggregator.story import START, at, definition, learn, see

SERVICE = "id-recognition"


@asynccontextmanager
async def reading(pool: Pool) -> AsyncIterator[Connection]:
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        yield conn


async def dry_run(
    pool: Pool, start: float, end: float, rules: Mapping[str, object], *, now: float = 100_000, service_id: str = SERVICE
) -> DryRun:
    query = DryRunQuery.model_validate({"service_id": service_id, "starts_at": at(start), "ends_at": at(end)} | dict(rules))
    async with reading(pool) as conn:
        return await audits.dry_run(conn, query, now=at(now))


def plain(intervals: tuple[StateInterval, ...]) -> list[tuple[str, float, float | None]]:
    return [(one.state.value, slot(one.started_at), None if one.ended_at is None else slot(one.ended_at)) for one in intervals]


def slot(moment: object) -> float:
    return (moment - START) / timedelta(seconds=2)  # type: ignore[operator, no-any-return]  # a datetime, always


async def work(pool: Pool, now: float) -> None:
    while await replays.work(pool, clock=lambda: at(now)):
        pass


async def watched(pool: Pool) -> None:
    """Twenty slots: two down of them, of which one lies in a maintenance window; three partly down; one unknown check."""
    await learn(pool, definition())
    for region, seen in (("eu", "++++--++++---+++++?+"), ("us", "++++--+++++++++++++++"[:20]), ("asia", "+" * 20)):
        await see(pool, seen, region=region)
    await work(pool, 20)
