"""SQL of who fell silent: regions from which nothing comes any more, and those whose checker says that it is isolated."""

from collections.abc import Sequence
from datetime import datetime, timedelta

from shared.contracts.checks import CheckerIsolatedV1, CheckerRecoveredV1
from shared.database import Connection

KEPT = timedelta(days=7)
"""How long a checker is remembered that never said it recovered: it is another by now."""

SQL_FELL_SILENT = """
select r.service_id, r.region
  from region_state r join service s on s.id = r.service_id
 where r.slots <> '{}' and r.silent_at is distinct from r.newest_at
   and r.newest_at < $2::timestamptz - interval '3 seconds'  -- served by region_state_heard; nobody is silent sooner
   and s.version > 0 and s.is_active and s.removed_at is null
   and greatest(r.newest_at, $1::timestamptz, s.silent_since) + s.silent_after_ms * interval '1 millisecond' < $2
   and ($3::text[] is null or r.service_id = any($3))
 order by r.service_id, r.region
 limit $4"""

SQL_ISOLATED = (
    "select checker, region, since from isolated_checker where recovered_at is null and since < $1::timestamptz - interval '3 seconds'"
)
# Whose newest outcome came from there: of another checker in that region nothing is known to be wrong. Each is one look by
# api_response_times_by_service.
SQL_CUT_OFF = """
select r.service_id, r.region
  from unnest($1::text[], $2::text[], $3::timestamptz[]) as isolated (checker, region, since)
  join region_state r on r.region = isolated.region and r.newest_at < isolated.since
   and r.slots <> '{}' and r.silent_at is distinct from r.newest_at
  join service s on s.id = r.service_id and s.version > 0 and s.is_active and s.removed_at is null
 where ($4::text[] is null or r.service_id = any($4))
   and isolated.checker = (select c.checker from api_response_times c
                            where c.service_id = r.service_id and c.scheduled_at = r.newest_at and c.region = r.region
                              and c.outcome <> 'unknown' and c.source = 'check' limit 1)
 limit $5"""

SQL_SEE_CHECKER = """
insert into isolated_checker (checker, region, since, recovered_at) values ($1, $2, $3, $4)
    on conflict (checker) do update set region = excluded.region, since = excluded.since, recovered_at = excluded.recovered_at
 where isolated_checker.since < excluded.since
    or (isolated_checker.since = excluded.since and isolated_checker.recovered_at is null)"""
SQL_FORGET_CHECKERS = "delete from isolated_checker where since < $1"


async def fell_silent(
    conn: Connection, *, settled_since: datetime, now: datetime, among: Sequence[str] | None = None, limit: int = 10_000
) -> list[tuple[str, str]]:
    """Return (service, region) pairs that are silent now, `limit` of either kind at most.

    Of some, the newest outcome, or the moment we began to listen, or the present interval, began too long ago. The others
    were seen last by a checker that is isolated, before it was.
    """
    rows = await conn.fetch(SQL_FELL_SILENT, settled_since, now, among, limit)
    isolated = await conn.fetch(SQL_ISOLATED, now)
    if isolated:
        rows += await conn.fetch(SQL_CUT_OFF, *([one[place] for one in isolated] for place in range(3)), among, limit)
    return sorted({(row["service_id"], row["region"]) for row in rows})


async def isolated_regions(conn: Connection, *, now: datetime) -> set[str]:
    """Return the regions where a checker is isolated."""
    return {row["region"] for row in await conn.fetch(SQL_ISOLATED, now)}


async def see_checker(conn: Connection, told: CheckerIsolatedV1 | CheckerRecoveredV1) -> None:
    """Note that a checker is isolated, or no longer. What is older than what is known changes nothing, however often it comes."""
    recovered_at = told.recovered_at if isinstance(told, CheckerRecoveredV1) else None
    await conn.execute(SQL_SEE_CHECKER, told.checker, told.region, told.since, recovered_at)


async def forget_checkers(conn: Connection, *, now: datetime) -> None:
    """Forget those that were isolated long ago."""
    await conn.execute(SQL_FORGET_CHECKERS, now - KEPT)
