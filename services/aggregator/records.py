"""SQL of the records: each check once in api_response_times, and each day in api_call_logs and uptime_records."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID, uuid5

from asyncpg import Record

from services.aggregator.domain.day import Tally, day_status, uptime_percentage
from shared.contracts.checks import CallBatchV1, CheckResult
from shared.contracts.codes import Outcome, Status
from shared.contracts.status import UptimeDay
from shared.database import Connection

ServiceDay = tuple[str, date]

SUCCESS = {Outcome.HEALTHY: True, Outcome.DEGRADED: True, Outcome.FAILED: False, Outcome.UNKNOWN: None}
REPORTED = "reported"
"""The source of calls that others measured; those of checks say 'check'."""

COLUMNS = (
    *("id", "service_id", "region", "scheduled_at", "measured_at", "outcome", "is_success", "response_time", "status_code"),
    *("error_type", "error_message", "endpoint", "method", "checker", "attempt", "metadata"),
)
"""What is stored of a check; `row` gives the values."""

SQL_STORED = "select id from api_response_times where id = any($1::uuid[]) and scheduled_at between $2 and $3"

SQL_INSERT_CALLS = """
insert into api_response_times (id, service_id, region, scheduled_at, measured_at, outcome, is_success, response_time, status_code,
                                error_message, endpoint, method, source, metadata)
select id, $2, '', measured_at, measured_at, case when is_success then 'healthy' else 'failed' end, is_success, response_time, status_code,
       error_message, endpoint, method, $3, $4
  from unnest($1::uuid[], $5::timestamptz[], $6::boolean[], $7::double precision[], $8::integer[], $9::text[], $10::text[], $11::text[])
       as given (id, measured_at, is_success, response_time, status_code, error_message, endpoint, method)
    on conflict do nothing
returning id"""

SQL_LOAD_DAYS = """
select l.service_id, l.date, l.successful_calls, l.failed_calls, l.response_time_count, l.response_time_sum_us,
       l.min_response_time, l.max_response_time
  from unnest($1::text[], $2::date[]) as asked (service_id, date) join api_call_logs l using (service_id, date)"""

SQL_SAVE_CALL_LOGS = """
insert into api_call_logs (service_id, date, total_calls, successful_calls, failed_calls, response_time_count, response_time_sum_us,
                           avg_response_time, min_response_time, max_response_time, uptime_percentage)
select * from unnest($1::text[], $2::date[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::double precision[],
                     $9::double precision[], $10::double precision[], $11::numeric[])
    on conflict (service_id, date) do update
   set total_calls = excluded.total_calls, successful_calls = excluded.successful_calls, failed_calls = excluded.failed_calls,
       response_time_count = excluded.response_time_count, response_time_sum_us = excluded.response_time_sum_us,
       avg_response_time = excluded.avg_response_time, min_response_time = excluded.min_response_time,
       max_response_time = excluded.max_response_time, uptime_percentage = excluded.uptime_percentage,
       finalized_at = null  -- a day that was closed is to be closed again"""

SQL_SAVE_UPTIME = """
insert into uptime_records (service_id, date, status, uptime_percentage, total_checks, successful_checks, failed_checks, avg_response_time)
select * from unnest($1::text[], $2::date[], $3::text[], $4::numeric[], $5::bigint[], $6::bigint[], $7::bigint[], $8::double precision[])
    on conflict (service_id, date) do update
   set status = excluded.status, uptime_percentage = excluded.uptime_percentage, total_checks = excluded.total_checks,
       successful_checks = excluded.successful_checks, failed_checks = excluded.failed_checks,
       avg_response_time = excluded.avg_response_time, finalized_at = null"""

SQL_READ_DAYS = """
select u.date, u.status, u.uptime_percentage, u.total_checks, u.successful_checks, u.failed_checks, u.avg_response_time,
       l.p50_response_time, l.p95_response_time, l.p99_response_time, l.total_downtime_minutes, u.finalized_at is not null as is_closed
  from uptime_records u left join api_call_logs l on l.service_id = $1 and l.date = u.date and l.date between $2 and $3
 where u.service_id = $1 and u.date between $2 and $3"""


def row(one: CheckResult, checker: str) -> tuple[object, ...]:
    """Return a check as a row of api_response_times, in the order of COLUMNS."""
    return (
        one.id,
        one.service_id,
        one.region,
        one.scheduled_at,
        one.checked_at,
        one.outcome.value,
        SUCCESS[one.outcome],
        one.response_time_ms,
        one.status_code,
        None if one.error_type is None else one.error_type.value,
        _storable(one.error_message),
        _storable(one.endpoint),
        _storable(one.method),
        checker,
        one.attempt,
        _rest(one),
    )


async def stored_ids(conn: Connection, checks: Collection[CheckResult]) -> set[int]:
    """Return the ids (as numbers) of those checks that are stored already. Their services are locked, so nobody else stores more."""
    slots = [one.scheduled_at for one in checks]
    return {row["id"].int for row in await conn.fetch(SQL_STORED, [one.id for one in checks], min(slots), max(slots))}


async def insert_checks(conn: Connection, rows: Sequence[tuple[object, ...]]) -> None:
    """Store checks that are not stored yet, each as `row` gives it: straight into the table, as fast as there is."""
    await conn.copy_records_to_table("api_response_times", records=rows, columns=COLUMNS)


async def insert_calls(conn: Connection, batch_id: UUID, batch: CallBatchV1) -> int:
    """Store calls that others measured, and return how many were not there yet. Each id follows from the batch's and its place."""
    calls = batch.calls
    rows = await conn.fetch(
        SQL_INSERT_CALLS,
        [uuid5(batch_id, str(place)) for place in range(len(calls))],
        batch.service_id,
        REPORTED,
        {"reporter": batch.reporter},
        [one.measured_at for one in calls],
        [one.is_success for one in calls],
        [one.duration_ms for one in calls],
        [one.status_code for one in calls],
        [_storable(one.error_message) for one in calls],
        [_storable(one.endpoint) for one in calls],
        [_storable(one.method) for one in calls],
    )
    return len(rows)


def _rest(result: CheckResult) -> dict[str, Any]:
    """Return what has no column of its own: what the kind measured, what failed and was found, the beginning of a failing answer."""
    if not (result.details or result.assertions or result.evidence):
        return {}
    # by way of JSON's own bytes, which hold no infinity
    rest = json.loads(result.model_dump_json(include={"details", "assertions", "evidence"}))
    return {name: _storable_json(value) for name, value in rest.items() if value}


def _storable_json(value: Any) -> Any:  # noqa: ANN401  # whatever JSON may be
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, dict):
        return {str(_storable(name)): _storable_json(one) for name, one in value.items()}
    return [_storable_json(one) for one in value] if isinstance(value, list) else value


def _storable(text: str | None) -> str | None:
    """PostgreSQL's text holds no NUL; what a checked server answered may."""
    return None if text is None else text.replace("\x00", "")


async def load_days(conn: Connection, days: Sequence[ServiceDay]) -> dict[ServiceDay, Tally]:
    """Return the counts of days that have a record. The services are locked by the caller."""
    rows = await conn.fetch(SQL_LOAD_DAYS, [service_id for service_id, _ in days], [day for _, day in days])
    return {
        (one["service_id"], one["date"]): Tally(
            one["successful_calls"],
            one["failed_calls"],
            one["response_time_count"],
            one["response_time_sum_us"],
            one["min_response_time"],
            one["max_response_time"],
        )
        for one in rows
    }


async def save_days(conn: Connection, days: Mapping[ServiceDay, Tally]) -> None:
    """Save the counts of days, one statement for each table. Percentiles come from the rollups."""
    keys = sorted(days)  # the order in which `rollups.reopen` takes them, too
    services, dates, tallies = [service_id for service_id, _ in keys], [day for _, day in keys], [days[one] for one in keys]
    total, ok, failed = [one.total for one in tallies], [one.successful for one in tallies], [one.failed for one in tallies]
    uptime, average = [uptime_percentage(one.successful, one.total) for one in tallies], [one.avg_ms for one in tallies]
    counts, sums = [one.response_count for one in tallies], [one.response_sum_us for one in tallies]
    least, most = [one.min_ms for one in tallies], [one.max_ms for one in tallies]
    await conn.execute(SQL_SAVE_CALL_LOGS, services, dates, total, ok, failed, counts, sums, average, least, most, uptime)
    statuses = [day_status(one.successful, one.total).value for one in tallies]
    await conn.execute(SQL_SAVE_UPTIME, services, dates, statuses, uptime, total, ok, failed, average)


@dataclass(frozen=True, slots=True)
class Recorded:
    """The record of a day. Percentiles and downtime hold once the day is closed."""

    day: UptimeDay
    is_closed: bool


async def read_days(conn: Connection, service_id: str, *, first: date, last: date) -> dict[date, Recorded]:
    """Return the days of a service that have a record."""
    return {
        row["date"]: Recorded(_day(service_id, row), row["is_closed"]) for row in await conn.fetch(SQL_READ_DAYS, service_id, first, last)
    }


def _day(service_id: str, row: Record) -> UptimeDay:
    return UptimeDay(
        service_id=service_id,
        date=row["date"].isoformat(),
        status=Status(row["status"]),
        uptime_percentage=None if row["uptime_percentage"] is None else float(row["uptime_percentage"]),
        total_checks=row["total_checks"],
        successful_checks=row["successful_checks"],
        failed_checks=row["failed_checks"],
        avg_response_time=row["avg_response_time"],
        p50_response_time=row["p50_response_time"],
        p95_response_time=row["p95_response_time"],
        p99_response_time=row["p99_response_time"],
        total_downtime_minutes=float(row["total_downtime_minutes"] or 0),
    )
