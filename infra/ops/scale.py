"""`sla-monitor db seed --scale`: the history of very many services, made by PostgreSQL itself, to see how reads behave at that size.

Their definitions are switched off: nothing of it is checked, and nobody is alerted. The services are called scale-0, scale-1, …, their
contracts scale-0, scale-1, …, scale-wide-0, … Running it again replaces nothing: what is there is left as it is.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from infra.ops import scale_past as past
from infra.ops.errors import OpsError
from infra.ops.seed import as_service
from services.aggregator import usecases as aggregator
from shared.database import Connection

AT_ONCE = 500
"""Services in one transaction."""
MINUTES_OF = 20
"""One of so many services has a day of minutes, too."""
STEP_S = 600.0
REGION = "scale"

# A check a minute: those of an hour or a day lie in twenty bins around a service's own usual time, that of a minute in one of them. The
# sums follow from them well enough to be looked at.
_SPREAD = """array(select generate_series(base, base + 19)),
       array(select {checks} / 60 * weight from unnest(array[1,2,3,4,5,6,6,5,5,4,4,3,3,2,2,1,1,1,1,1]) as weight)"""
_ONE = "array[base + extract(minute from bucket)::integer % 20], array[1]"
_ROW = """
select id, $3, bucket, {checks}, 0, number % 3, 0, {checks}, {checks} * 50000, 20, 900,
       {bins}
  from (select 'scale-' || n as id, n as number, 150 + n % 100 as base from generate_series($1::integer, $2::integer - 1) n) service,
       generate_series($4::timestamptz, $5::timestamptz, interval '{step}') as bucket
    on conflict do nothing"""
_INTO = """
insert into {table} (service_id, region, bucket, healthy, degraded, failed, unknown, response_count, response_sum_us, min_ms, max_ms,
                     keys, counts)"""

SQL_SERVICES = """
insert into service (id, version, name, is_active, check_interval, created_at)
select 'scale-' || n, 1, 'Scale ' || n, true, 60000, $3 from generate_series($1::integer, $2::integer - 1) n on conflict do nothing"""
SQL_RULES = """
insert into definition_history (service_id, since, version, check_interval, timeout, failure_threshold, recovery_threshold, quorum,
                                regions, watched)
select 'scale-' || n, $3, 1, 60000, 5000, 2, 2, 'majority', '{}', true
  from generate_series($1::integer, $2::integer - 1) n on conflict do nothing"""
SQL_LOGS = """
insert into api_call_logs (service_id, date, total_calls, successful_calls, failed_calls, avg_response_time, min_response_time,
                           max_response_time, p50_response_time, p95_response_time, p99_response_time, response_time_count,
                           response_time_sum_us, uptime_percentage, finalized_at)
select 'scale-' || n, $3::date - day, 1440, 1440 - n % 3, n % 3, 50, 20, 900, 48, 90, 300, 1440, 72000000,
       trunc(100.0 * (1440 - n % 3) / 1440, 2), now()
  from generate_series($1::integer, $2::integer - 1) n, generate_series(1, $4::integer) day on conflict do nothing"""
SQL_UPTIME = """
insert into uptime_records (service_id, date, status, uptime_percentage, total_checks, successful_checks, failed_checks, avg_response_time,
                            finalized_at)
select 'scale-' || n, $3::date - day, case when n % 3 = 2 then 'po' else 'o' end, trunc(100.0 * (1440 - n % 3) / 1440, 2), 1440,
       1440 - n % 3, n % 3, 50, now()
  from generate_series($1::integer, $2::integer - 1) n, generate_series(1, $4::integer) day on conflict do nothing"""
SQL_PROGRESS = """
insert into rollup_progress (resolution, done_until)
values ('minute', $1), ('hour', date_bin('1 hour', $1, 'epoch')), ('day', $2), ('closed', $2)
    on conflict do nothing"""
TABLES = ("service", "definition_history", "api_call_logs", "uptime_records", "rollup_minute", "rollup_hour", "rollup_day")


@dataclass(frozen=True, slots=True)
class Scale:
    """How much to make."""

    services: int = 10_000
    days: int = 90
    hour_days: int = 30


def _rows(table: str, *, checks: int, step: str) -> str:
    bins = _ONE if checks == 1 else _SPREAD.format(checks=checks)
    return _INTO.format(table=table) + _ROW.format(checks=checks, bins=bins, step=step)


async def seed(admin_url: str, passwords: Mapping[str, str], scale: Scale) -> int:
    """Make the history; return how many services it has. Raises OpsError."""
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    began = now.replace(hour=0, minute=0) - timedelta(days=scale.days)
    if scale.hour_days > scale.days:
        message = "there cannot be more days of hours than days"
        raise OpsError(message)
    async with as_service(admin_url, "aggregator", passwords) as conn:
        await _seed_aggregator(conn, scale, began=began, now=now)
    async with as_service(admin_url, "incidents", passwords) as conn:
        for first, last in _some(scale):
            for sql in (past.SQL_HEARD_SERVICES, past.SQL_INCIDENTS, past.SQL_INCIDENT_UPDATES, past.SQL_WINDOWS):
                await conn.execute(sql, first, last, began, scale.days, timeout=STEP_S)
        await _vacuum(conn, past.INCIDENTS_TABLES)
    async with as_service(admin_url, "checker", passwords) as conn:
        async with conn.transaction():
            await conn.execute(past.SQL_DEFINITIONS, 0, scale.services, began, await conn.fetchval(past.SQL_REVISION), timeout=STEP_S)
        await _vacuum(conn, past.CHECKER_TABLES)
    return scale.services


async def _seed_aggregator(conn: Connection, scale: Scale, *, began: datetime, now: datetime) -> None:
    midnight, hour = now.replace(hour=0, minute=0), now.replace(minute=0)
    minutes, hours = _rows("rollup_minute", checks=1, step="1 minute"), _rows("rollup_hour", checks=60, step="1 hour")
    days = _rows("rollup_day", checks=1440, step="1 day")
    async with conn.transaction():
        months = (now.year - began.year) * 12 + now.month - began.month
        await aggregator.make_partitions(conn, today=began.date(), months_ahead=months, days_ahead=0)  # as it would have been done then
        await aggregator.make_partitions(conn, today=midnight.date())
    steps = (
        (SQL_SERVICES, (began,)),
        (SQL_RULES, (began,)),
        (SQL_LOGS, (midnight.date(), scale.days)),
        (SQL_UPTIME, (midnight.date(), scale.days)),
        (past.SQL_TIMELINE, (began, scale.days, REGION)),
        (past.SQL_STATUSES, (began, scale.days, REGION)),
        (past.SQL_CONTRACTS, (began,)),
        (past.SQL_EXCLUSIONS, (began, scale.days)),
        (past.SQL_CORRECTIONS, (began, scale.days)),
        (past.SQL_COPIED_WINDOWS, (began, scale.days)),
        (past.SQL_CHECKS, (began, now, REGION)),
        (days, (REGION, began, midnight - timedelta(days=1))),
        (hours, (REGION, midnight - timedelta(days=scale.hour_days), hour - timedelta(hours=1))),
    )
    for first, last in _some(scale):
        async with conn.transaction():
            for sql, values in steps:
                await conn.execute(sql, first, last, *values, timeout=STEP_S)
            most = first + max(1, (last - first) // MINUTES_OF)
            await conn.execute(minutes, first, most, REGION, now - timedelta(days=1), now - timedelta(minutes=1), timeout=STEP_S)
    await conn.execute(past.SQL_CONTRACT_VERSIONS, began)
    await conn.execute(past.SQL_WINDOW_VERSIONS, timeout=STEP_S)
    await conn.execute(SQL_PROGRESS, now, midnight)
    await _vacuum(conn, (*TABLES, *past.AGGREGATOR_TABLES))


def _some(scale: Scale) -> Iterator[tuple[int, int]]:
    """Give the services of each transaction: the first, and the one after the last."""
    for first in range(0, scale.services, AT_ONCE):
        yield first, min(first + AT_ONCE, scale.services)


async def _vacuum(conn: Connection, tables: Iterable[str]) -> None:
    for table in tables:
        await conn.execute(f"vacuum analyze {table}", timeout=STEP_S)
