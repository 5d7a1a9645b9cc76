"""What this service has heard: a message id is claimed in the transaction of its effect, so the effect happens once."""

from datetime import datetime, timedelta
from uuid import UUID

from shared.database import Connection, affected

KEEP = timedelta(days=60)
"""Longer than any dead letter is kept before it is replayed."""

SQL_CLAIM = "insert into inbox (message_id) values ($1) on conflict do nothing"
SQL_FORGET = "delete from inbox where claimed_at < $1"


async def claim(conn: Connection, message_id: UUID | str) -> bool:
    """Return True for the first claim of this id, False for every later one. Undone if the transaction is."""
    return affected(await conn.execute(SQL_CLAIM, str(message_id))) == 1


async def forget(conn: Connection, *, now: datetime) -> int:
    """Delete claims older than any message that can still come; return how many."""
    return affected(await conn.execute(SQL_FORGET, now - KEEP))
