"""What incidents does once a day."""

import asyncio
from datetime import datetime, timedelta

import pytest

from services.incidents.__main__ import forget_daily
from shared import inbox
from shared.clock import utc_now
from shared.database import Connection, Pool
from tests.waiting import until

NEW, OLD = "heard just now", "heard long ago"


async def test_old_message_ids_are_forgotten_and_newer_ones_kept_even_if_the_database_is_away_at_first(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seen red with a job that only waits for midnight, with one that ends when the database is away, and with one that forgets all."""
    now = utc_now()
    claims = [(NEW, now), (OLD, now - inbox.KEEP - timedelta(minutes=1))]
    await pool.executemany("insert into inbox (message_id, claimed_at) values ($1, $2)", claims)
    forget, refusals = inbox.forget, [ConnectionRefusedError("the database is away")]

    async def away_at_first(conn: Connection, *, now: datetime) -> int:
        if refusals:
            raise refusals.pop()
        return await forget(conn, now=now)

    monkeypatch.setattr(inbox, "forget", away_at_first)
    job = asyncio.create_task(forget_daily(pool, clock=utc_now))

    async def forgotten() -> bool:
        return [row["message_id"] for row in await pool.fetch("select message_id from inbox")] == [NEW]

    try:
        await until(forgotten, within_s=10, what="only the newer one is kept")
        assert not job.done(), "it goes on for ever"
    finally:
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
