"""The checker's SQL, each statement beside the function that means it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from services.checker.domain.definition import FIELDS, Definition
from shared.contracts.checks import CheckResult
from shared.contracts.codes import Outcome
from shared.database import Connection

if TYPE_CHECKING:
    import asyncpg

COLUMNS = """id, name, display_name, display_name_ko, description, kind, endpoint_url, check_interval, timeout, failure_threshold,
       recovery_threshold, is_active, retry_interval_ms, degraded_after_ms, regions, quorum, depends_on,
       assertions, options, metadata, status, status_version, version, revision, created_at, updated_at, removed_at"""

SQL_NEXT_REVISION = "update definitions_revision set revision = revision + 1 returning revision"
SQL_HOLD = "select from definitions_revision for update"
SQL_LIST = f"select {COLUMNS} from services where removed_at is null order by id"
SQL_GET = f"select {COLUMNS} from services where id = $1"
SQL_DEPENDENCIES = "select id, depends_on from services where removed_at is null"
SQL_MEMBERS = "select id, options -> 'members' as members from services where kind = 'group' and removed_at is null"
SQL_NAME_TAKEN = "select id from services where name = $1 and id <> $2 and removed_at is null"
SQL_SAVE = f"""
insert into services (id, name, display_name, display_name_ko, description, kind, endpoint_url, check_interval, timeout,
                      failure_threshold, recovery_threshold, is_active, options, metadata, retry_interval_ms, degraded_after_ms,
                      regions, quorum, depends_on, assertions, revision)
select id, name, display_name, display_name_ko, description, kind, endpoint_url, check_interval, timeout,
       failure_threshold, recovery_threshold, is_active, options, metadata, retry_interval_ms, degraded_after_ms,
       regions, quorum, depends_on, assertions, $2
  from jsonb_to_recordset($1) as one (
       id text, name text, display_name text, display_name_ko text, description text, kind text, endpoint_url text,
       check_interval integer, timeout integer, failure_threshold integer, recovery_threshold integer, is_active boolean,
       options jsonb, metadata jsonb, retry_interval_ms integer, degraded_after_ms integer, regions text[],
       quorum text, depends_on text[], assertions jsonb)
on conflict (id) do update set
    name = excluded.name, display_name = excluded.display_name, display_name_ko = excluded.display_name_ko,
    description = excluded.description, kind = excluded.kind, endpoint_url = excluded.endpoint_url,
    check_interval = excluded.check_interval, timeout = excluded.timeout, failure_threshold = excluded.failure_threshold,
    recovery_threshold = excluded.recovery_threshold, is_active = excluded.is_active, options = excluded.options,
    metadata = excluded.metadata, retry_interval_ms = excluded.retry_interval_ms, degraded_after_ms = excluded.degraded_after_ms,
    regions = excluded.regions, quorum = excluded.quorum, depends_on = excluded.depends_on,
    assertions = excluded.assertions, revision = excluded.revision, version = services.version + 1,
    created_at = case when services.removed_at is null then services.created_at else now() end, removed_at = null
returning {COLUMNS}"""
SQL_FREE_NAMES = "update services set name = chr(1) || id where id = any($1)"
SQL_REMOVE = f"""
update services set removed_at = now(), revision = $2, version = version + 1, options = '{{}}'
 where id = any($1) and removed_at is null returning {COLUMNS}"""
SQL_SEALED = "select id, options from services where options <> '{}' order by id"
SQL_RESEAL = """
update services set options = one.options from jsonb_to_recordset($1) as one (id text, options jsonb)
 where services.id = one.id"""
SQL_APPLY_STATUS = """
with next as (update statuses_revision set revision = revision + 1 returning revision)
update services set status = $2, status_version = $3, status_revision = next.revision from next where id = $1 and status_version < $3"""
SQL_WRITE_LOGS = """
insert into watch_server_logs (id, service_id, region, scheduled_at, checked_at, is_healthy, response_time, status_code,
                               error_type, error_message, metadata)
select id, service_id, region, scheduled_at, checked_at, is_healthy, response_time, status_code, error_type, error_message, metadata::jsonb
  from unnest($1::uuid[], $2::text[], $3::text[], $4::timestamptz[], $5::timestamptz[], $6::boolean[], $7::float8[], $8::integer[],
              $9::text[], $10::text[], $11::text[])
       as log (id, service_id, region, scheduled_at, checked_at, is_healthy, response_time, status_code, error_type, error_message,
               metadata)
on conflict do nothing"""
SQL_LOCK_PARTITIONS = "select pg_advisory_xact_lock(hashtext('watch_server_logs partitions'))"
SQL_PARTITION_EXISTS = "select to_regclass($1) is not null"
SQL_MAKE_PARTITION = "create table {name} partition of watch_server_logs for values from ('{begin:%Y-%m-%d}+00') to ('{end:%Y-%m-%d}+00')"
SQL_DEFAULT_HOLDS = "select exists (select from watch_server_logs_default where scheduled_at >= $1 and scheduled_at < $2)"

PAGE = 500

BESIDE = ("status", "status_version", "version", "revision", "created_at", "updated_at", "removed_at")
"""Columns of a service that are no part of its definition."""

HEALTHY = {Outcome.HEALTHY: True, Outcome.FAILED: False, Outcome.UNKNOWN: None}


@dataclass(frozen=True, slots=True)
class Stored:
    """A definition as the table has it."""

    definition: Definition
    status: str
    status_version: int
    version: int
    revision: int
    created_at: datetime
    updated_at: datetime
    removed_at: datetime | None


async def next_revision(conn: Connection) -> int:
    """Count the definitions' revision up and hold it until the transaction ends: changes of definitions take turns."""
    return int(await conn.fetchval(SQL_NEXT_REVISION))


async def hold(conn: Connection) -> None:
    """Take the turn without counting up: what is read from now on is what will be changed, if anything is."""
    await conn.execute(SQL_HOLD)


async def all_present(conn: Connection) -> list[Stored]:
    """Return every definition that is not removed, by id."""
    # By pages: between them, checks that come due begin.
    async with conn.transaction():
        return [_stored(row) async for row in conn.cursor(SQL_LIST, prefetch=PAGE)]


async def get(conn: Connection, service_id: str) -> Stored | None:
    """Return a definition, even a removed one."""
    row = await conn.fetchrow(SQL_GET, service_id)
    return None if row is None else _stored(row)


async def dependencies(conn: Connection) -> dict[str, tuple[str, ...]]:
    """Return what each service that is not removed depends on."""
    return {row["id"]: tuple(row["depends_on"]) for row in await conn.fetch(SQL_DEPENDENCIES)}


async def members(conn: Connection) -> dict[str, list[str]]:
    """Return the members of each group that is not removed."""
    return {row["id"]: row["members"] for row in await conn.fetch(SQL_MEMBERS)}


async def name_taken(conn: Connection, name: str, *, besides: str) -> bool:
    """Say whether another service, not removed, has this name."""
    return await conn.fetchval(SQL_NAME_TAKEN, name, besides) is not None


async def save(conn: Connection, wanted: Sequence[Definition], *, revision_: int) -> list[Stored]:
    """Write definitions, new or changed; the version of each grows by one. A removed one comes back, created anew."""
    saved = []
    for first in range(0, len(wanted), PAGE):
        rows = [{name: getattr(one, name) for name in FIELDS} for one in wanted[first : first + PAGE]]
        saved += [_stored(row) for row in await conn.fetch(SQL_SAVE, rows, revision_)]
    return saved


async def free_names(conn: Connection, service_ids: Sequence[str]) -> None:
    """Give services a name that nobody can write, so that others may take theirs: `save` gives them their new one."""
    await conn.execute(SQL_FREE_NAMES, service_ids)


async def remove(conn: Connection, service_ids: Sequence[str], *, revision_: int) -> list[Stored]:
    """Mark definitions as removed, and forget their options with the secrets in them; returns those that were not removed already."""
    return [_stored(row) for row in await conn.fetch(SQL_REMOVE, service_ids, revision_)]


async def all_options(conn: Connection) -> dict[str, dict[str, Any]]:
    """Return the options of every service that has some, as they are stored."""
    return {row["id"]: row["options"] for row in await conn.fetch(SQL_SEALED)}


async def reseal(conn: Connection, options: Mapping[str, dict[str, Any]]) -> None:
    """Store options that are sealed anew: no change of the definitions."""
    await conn.execute(SQL_RESEAL, [{"id": service_id, "options": one} for service_id, one in options.items()])


async def apply_status(conn: Connection, service_id: str, status: str, version: int) -> None:
    """Keep the copy of a status, unless a newer one is there."""
    await conn.execute(SQL_APPLY_STATUS, service_id, status, version)


async def write_logs(conn: Connection, results: Sequence[CheckResult]) -> None:
    """Write checks down; those that are there already stay as they are."""
    await conn.execute(
        SQL_WRITE_LOGS,
        [one.id for one in results],
        [one.service_id for one in results],
        [one.region for one in results],
        [one.scheduled_at for one in results],
        [one.checked_at for one in results],
        [HEALTHY[one.outcome] for one in results],
        [one.response_time_ms for one in results],
        [one.status_code for one in results],
        [one.error_type for one in results],
        [one.error_message for one in results],
        [_metadata(one) for one in results],
    )


async def make_partitions(conn: Connection, days: Iterable[date]) -> list[str]:
    """Make the months of these days, where they are missing; return the names of those made. Call inside a transaction.

    A month of which the default partition holds rows cannot be split off any more: its rows go on to be kept there.
    """
    await conn.execute(SQL_LOCK_PARTITIONS)
    made = []
    for first in sorted({day.replace(day=1) for day in days}):
        name = f"watch_server_logs_{first:%Y_%m}"
        begin, end = _midnight(first), _midnight(_next_month(first))
        if await conn.fetchval(SQL_PARTITION_EXISTS, name) or await conn.fetchval(SQL_DEFAULT_HOLDS, begin, end):
            continue
        await conn.execute(SQL_MAKE_PARTITION.format(name=name, begin=begin, end=end))
        made.append(name)
    return made


def _metadata(one: CheckResult) -> str:
    return json.dumps({"phases": one.phases.model_dump(exclude_none=True), "endpoint": one.endpoint, "method": one.method})


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _next_month(first: date) -> date:
    return date(first.year + first.month // 12, first.month % 12 + 1, 1)


def _stored(row: "asyncpg.Record") -> Stored:
    fields: dict[str, Any] = dict(row)
    beside = {name: fields.pop(name) for name in BESIDE}
    for name in ("regions", "depends_on", "assertions"):
        fields[name] = tuple(fields[name])
    return Stored(Definition(**fields), **beside)
