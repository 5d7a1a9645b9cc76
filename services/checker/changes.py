"""What changed in the definitions and in the copies of statuses since a revision, and only what a checker needs of it. In pages."""

from dataclasses import dataclass
from typing import Any

from shared.database import Connection

PAGE = 500

SQL_REVISIONS = """
select definitions.revision as definitions, statuses.revision as statuses
  from definitions_revision as definitions, statuses_revision as statuses"""
SQL_CHANGED = """
select id, kind, endpoint_url, check_interval, timeout, options, created_at, revision, failure_threshold, recovery_threshold,
       retry_interval_ms, degraded_after_ms, assertions, regions, is_active and removed_at is null as is_wanted,
       case when removed_at is null then status end as status
  from services where (revision, id) > ($1, $2) order by revision, id limit $3"""
SQL_STATUSES = "select id, status from services where status_revision > $1 and removed_at is null"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a definition asks of a checker, as it is stored: options and assertions unread, secrets sealed. Times in milliseconds.

    `is_wanted` is False for what is removed or inactive. `status` is None for what is removed.
    """

    id: str
    kind: str
    endpoint_url: str
    check_interval: int
    timeout: int
    options: dict[str, Any]
    created_ms: int
    revision: int
    failure_threshold: int
    recovery_threshold: int
    retry_interval_ms: int | None
    degraded_after_ms: int | None
    assertions: list[dict[str, Any]]
    regions: list[str]
    is_wanted: bool
    status: str | None = None


async def revisions(conn: Connection) -> tuple[int, int]:
    """Return the newest committed revision of the definitions, and that of the statuses."""
    row = await conn.fetchrow(SQL_REVISIONS)
    return (row["definitions"], row["statuses"]) if row else (0, 0)


async def changed_after(conn: Connection, revision: int, service_id: str) -> list[Wanted]:
    """Return a page of what changed after a change, oldest change first; the last one's `revision` and `id` lead to the next page."""
    return [_wanted(dict(row)) for row in await conn.fetch(SQL_CHANGED, revision, service_id, PAGE)]


async def statuses_after(conn: Connection, revision: int) -> dict[str, str]:
    """Return the statuses that changed after a revision, by service; all for -1."""
    return {row["id"]: row["status"] for row in await conn.fetch(SQL_STATUSES, revision)}


def _wanted(row: dict[str, Any]) -> Wanted:
    return Wanted(created_ms=int(row.pop("created_at").timestamp() * 1000), **row)
