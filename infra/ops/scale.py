"""`sla-monitor db seed --scale`: the history of very many services, made by PostgreSQL itself, to see how reads behave at that size.

Only the aggregator's tables: nothing of it is checked or shown on the page, and nobody is alerted. The services are called scale-0,
scale-1, … Running it again replaces nothing: what is there is left as it is.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from infra.ops.errors import OpsError
from infra.ops.seed import as_service
from services.aggregator import usecases as aggregator

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
# Up, and down for seven minutes every tenth day.
SQL_TIMELINE = """
with days as (select 'scale-' || n as id, $3::timestamptz + day * interval '10 days' as at, day
                from generate_series($1::integer, $2::integer - 1) n, generate_series(0, $4::integer / 10 - 1) day)
insert into timeline (service_id, state, started_at, ended_at, regions_down)
select id, 'up', at, at + interval '9 days 23 hours', '{}' from days
 union all select id, 'down', at + interval '9 days 23 hours', at + interval '9 days 23 hours 7 minutes', array[$5] from days
 union all select id, 'up', at + interval '9 days 23 hours 7 minutes', at + interval '10 days', '{}' from days
    on conflict do nothing"""
SQL_STATUSES = """
insert into status_interval (service_id, version, status, started_at, detected_at, evidence)
select 'scale-' || n, 1, 'o', $3, $3,
       '{"reason": "Made to measure.", "regions_down": [], "regions_up": [], "regions_silent": [], "checks": []}'
  from generate_series($1::integer, $2::integer - 1) n on conflict do nothing"""
SQL_PROGRESS = """
insert into rollup_progress (resolution, done_until)
values ('minute', $1), ('hour', date_bin('1 hour', $1, 'epoch')), ('day', $2), ('closed', $2)
    on conflict do nothing"""
TABLES = ("service", "api_call_logs", "uptime_records", "rollup_minute", "rollup_hour", "rollup_day", "timeline", "status_interval")


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
    midnight = now.replace(hour=0, minute=0)
    hour, began = now.replace(minute=0), midnight - timedelta(days=scale.days)
    if scale.hour_days > scale.days:
        message = "there cannot be more days of hours than days"
        raise OpsError(message)
    minutes, hours = _rows("rollup_minute", checks=1, step="1 minute"), _rows("rollup_hour", checks=60, step="1 hour")
    days = _rows("rollup_day", checks=1440, step="1 day")
    async with as_service(admin_url, "aggregator", passwords) as conn:
        async with conn.transaction():
            await aggregator.make_partitions(conn, today=midnight.date())
        for first in range(0, scale.services, AT_ONCE):
            last = min(first + AT_ONCE, scale.services)
            steps = (
                (SQL_SERVICES, (began,)),
                (SQL_RULES, (began,)),
                (SQL_LOGS, (midnight.date(), scale.days)),
                (SQL_UPTIME, (midnight.date(), scale.days)),
                (SQL_TIMELINE, (began, scale.days, REGION)),
                (SQL_STATUSES, (began,)),
                (days, (REGION, began, midnight - timedelta(days=1))),
                (hours, (REGION, midnight - timedelta(days=scale.hour_days), hour - timedelta(hours=1))),
            )
            async with conn.transaction():
                for sql, values in steps:
                    await conn.execute(sql, first, last, *values, timeout=STEP_S)
                most = first + max(1, (last - first) // MINUTES_OF)
                await conn.execute(minutes, first, most, REGION, now - timedelta(days=1), now - timedelta(minutes=1), timeout=STEP_S)
        await conn.execute(SQL_PROGRESS, now, midnight)
        for table in TABLES:
            await conn.execute(f"vacuum analyze {table}", timeout=STEP_S)
    return scale.services
