"""SQL of services, their regions and statuses, and of the whole. The records of checks are in records.py.

Locks are taken in one order everywhere: services by id, then system_status. So replicas wait for each other, and never in a circle.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from asyncpg import Record

from services.aggregator.domain.muting import Alerting
from services.aggregator.domain.system import Whole
from services.aggregator.domain.verdict import (
    Condition,
    Course,
    Observation,
    Region,
    Standing,
    Thresholds,
    silent_after_ms,
)
from shared.contracts.codes import OverallStatus, Status
from shared.contracts.services import ServiceDefinition
from shared.contracts.status import Evidence, ServiceStatus, SystemStatus
from shared.database import Connection

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class Service:
    """What is known of a definition; version 0 means that only results came so far. Times in milliseconds."""

    id: str
    version: int
    is_active: bool
    check_interval: int
    thresholds: Thresholds
    created_at: datetime | None
    removed_at: datetime | None
    regions: tuple[str, ...] = ()
    quorum: str = "majority"
    depends_on: tuple[str, ...] = ()

    @property
    def is_watched(self) -> bool:
        """Whether checks are expected of it."""
        return self.is_active and self.removed_at is None

    def judged(self, regions: Mapping[str, Region]) -> list[Region]:
        """Return those regions that count for the status: the ones that the definition names, or all if it names none."""
        return [region for name, region in regions.items() if not self.regions or name in self.regions]


SQL_INTRODUCE = "insert into service (id) select unnest($1::text[]) on conflict do nothing"

SERVICE = """id, version, is_active, check_interval, failure_threshold, recovery_threshold, created_at, removed_at, regions, quorum,
       depends_on, silent_after_ms, silent_since, silent_longest_ms, asked_since"""
SQL_LOCK_SERVICES = f"select {SERVICE} from service where id = any($1::text[]) order by id for update"
SQL_SERVICE = f"select {SERVICE} from service where id = $1 and version > 0"
SQL_SERVICES = f"select {SERVICE} from service where id = any($1::text[]) and version > 0"

SQL_LEARN = f"""
update service
   set version = $2, name = $3, is_active = $4, check_interval = $5, timeout = $6, failure_threshold = $7, recovery_threshold = $8,
       silent_after_ms = $9, created_at = $10, removed_at = $11, regions = $12, quorum = $13, depends_on = $14,
       silent_since = case when version > 0 and silent_after_ms <> $9 then $15 else silent_since end,
       silent_longest_ms = greatest(silent_longest_ms, silent_after_ms, $9),
       asked_since = case when (failure_threshold, recovery_threshold, silent_after_ms) <> ($7, $8, $9) then $15 else asked_since end
 where id = $1
returning {SERVICE}"""
SQL_ASKED_OTHERWISE = """
update service set asked_since = greatest(asked_since, $2)
 where id = $1 and (failure_threshold, recovery_threshold, silent_after_ms) <> ($3, $4, $5)"""

SQL_REGIONS = """
select service_id, region, slots, healthy, base_condition, base_since, base_streak, base_streak_since, base_slot,
       degraded_slots, well_condition, well_since, well_streak, well_streak_since, silent_at
  from region_state where service_id = any($1::text[]) order by service_id, region"""

SQL_SAVE_REGIONS = """
insert into region_state (service_id, region, slots, healthy, degraded_slots,
                          base_condition, base_since, base_streak, base_streak_since, base_slot, newest_at,
                          well_condition, well_since, well_streak, well_streak_since, silent_at)
select service_id, region, slots::bigint[], healthy::boolean[], degraded_slots::bigint[],
       base_condition, base_since, base_streak, base_streak_since, base_slot, newest_at,
       well_condition, well_since, well_streak, well_streak_since, silent_at
  from unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::text[],
              $6::text[], $7::bigint[], $8::integer[], $9::bigint[], $10::bigint[], $11::timestamptz[],
              $12::text[], $13::bigint[], $14::integer[], $15::bigint[], $16::timestamptz[])
       as given (service_id, region, slots, healthy, degraded_slots,
                 base_condition, base_since, base_streak, base_streak_since, base_slot, newest_at,
                 well_condition, well_since, well_streak, well_streak_since, silent_at)
    on conflict (service_id, region) do update
   set slots = excluded.slots, healthy = excluded.healthy, base_condition = excluded.base_condition, base_since = excluded.base_since,
       base_streak = excluded.base_streak, base_streak_since = excluded.base_streak_since, base_slot = excluded.base_slot,
       newest_at = excluded.newest_at, degraded_slots = excluded.degraded_slots, well_condition = excluded.well_condition,
       well_since = excluded.well_since, well_streak = excluded.well_streak, well_streak_since = excluded.well_streak_since,
       silent_at = excluded.silent_at"""

SQL_STATUSES = """
select now_.service_id, now_.version, now_.status, now_.started_at, now_.detected_at, now_.evidence,
       now_.degraded, now_.maintenance, now_.flapping, now_.muted_by,
       before.status as previous, before.started_at as previous_since, coalesce(before.version, 0) as previous_version,
       before.muted_by as previous_muted_by
  from status_interval now_
  left join status_interval before on before.service_id = now_.service_id and before.version = now_.version - 1
 where now_.ended_at is null and ($1::text[] is null or now_.service_id = any($1))
 order by now_.service_id"""

SQL_CURRENT = """
select service_id, version, status, started_at, maintenance, flapping, muted_by, confirmed_at,
       array(select jsonb_array_elements_text(evidence -> 'regions_down')) as down,
       array(select jsonb_array_elements_text(evidence -> 'regions_degraded')) as degraded,
       array(select jsonb_array_elements_text(evidence -> 'regions_silent')) as silent
  from status_interval where ended_at is null and service_id = any($1::text[])"""

SQL_END_INTERVALS = """
update status_interval as before set ended_at = given.since from unnest($1::text[], $2::timestamptz[]) as given (service_id, since)
 where before.service_id = given.service_id and before.ended_at is null"""

SQL_BEGIN_INTERVAL = """
insert into status_interval (service_id, version, status, started_at, detected_at, evidence,
                             degraded, maintenance, flapping, muted_by, first_failed_at, confirmed_at)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)"""

SQL_COUNTS = """
select i.status, count(*) as number from status_interval i join service s on s.id = i.service_id
 where i.ended_at is null and s.is_active and s.removed_at is null group by i.status"""

SQL_LOCK_SYSTEM = "select * from system_status where id = 'current' for update"
SQL_SYSTEM = "select * from system_status where id = 'current'"
SQL_INCIDENT_COUNTS = (
    "select (select count(*) from incident_seen where is_open) as active, (select max(started_at) from incident_seen) as last_at"
)
SQL_SAVE_SYSTEM = """
update system_status
   set overall_status = $1, operational_services = $2, total_services = $3, active_incidents = $4, last_incident_at = $5, message = $6,
       version = version + 1
 where id = 'current' returning *"""

SQL_SEE_INCIDENT = """
insert into incident_seen (incident_id, version, is_open, started_at) values ($1, $2, $3, $4)
    on conflict (incident_id) do update set version = excluded.version, is_open = excluded.is_open, started_at = excluded.started_at
 where incident_seen.version < excluded.version"""


def moment(slot: int) -> datetime:
    """Return a slot, in milliseconds since 1970, as a moment; exact."""
    return EPOCH + timedelta(milliseconds=slot)


def slot_of(at: datetime) -> int:
    """Return a moment as a slot: milliseconds since 1970."""
    return (at - EPOCH) // MILLISECOND


def _service(row: Record) -> Service:
    return Service(
        id=row["id"],
        version=row["version"],
        is_active=row["is_active"],
        check_interval=row["check_interval"],
        thresholds=Thresholds(
            row["failure_threshold"],
            row["recovery_threshold"],
            row["silent_after_ms"],
            slot_of(row["silent_since"]),
            row["silent_longest_ms"],
            slot_of(row["asked_since"]),
        ),
        created_at=row["created_at"],
        removed_at=row["removed_at"],
        regions=tuple(row["regions"]),
        quorum=row["quorum"],
        depends_on=tuple(row["depends_on"]),
    )


async def introduce(conn: Connection, service_ids: Sequence[str]) -> None:
    """Make a row for each service that was never heard of, so that it can be locked. Ids ascending; in a transaction of its own."""
    await conn.execute(SQL_INTRODUCE, service_ids)


async def lock_services(conn: Connection, service_ids: Iterable[str]) -> dict[str, Service]:
    """Return the services by id, locked until the transaction ends; those without a row are missing."""
    return {row["id"]: _service(row) for row in await conn.fetch(SQL_LOCK_SERVICES, sorted(set(service_ids)))}


async def find_services(conn: Connection, service_ids: Iterable[str]) -> list[Service]:
    """Return those services whose definitions are known, removed or not. They are not locked."""
    return [_service(row) for row in await conn.fetch(SQL_SERVICES, list(service_ids))]


async def find_service(conn: Connection, service_id: str) -> Service | None:
    """Return a service whose definition is known, removed or not."""
    row = await conn.fetchrow(SQL_SERVICE, service_id)
    return None if row is None else _service(row)


async def learn(conn: Connection, definition: ServiceDefinition, *, removed_at: datetime | None) -> Service:
    """Save what a definition says, and return it. The row is locked by the caller."""
    one = definition
    silent = silent_after_ms(check_interval=one.check_interval, timeout=one.timeout)
    thresholds = (one.failure_threshold, one.recovery_threshold)
    times = (one.check_interval, one.timeout)
    policy = (list(one.regions), one.quorum, list(one.depends_on))
    values = (one.version, one.name, one.is_active, *times, *thresholds, silent, one.created_at, removed_at, *policy, one.updated_at)
    return _service(await _row(conn, SQL_LEARN, one.id, *values))


async def asked_otherwise(conn: Connection, definition: ServiceDefinition, *, now: datetime) -> None:
    """Note that something else was asked for, of which we learned only now. The row is locked by the caller."""
    silent = silent_after_ms(check_interval=definition.check_interval, timeout=definition.timeout)
    await conn.execute(SQL_ASKED_OTHERWISE, definition.id, now, definition.failure_threshold, definition.recovery_threshold, silent)


async def regions(conn: Connection, service_ids: Iterable[str]) -> dict[str, dict[str, Region]]:
    """Return what is remembered of services, by service and region. The services are locked by the caller."""
    found: dict[str, dict[str, Region]] = {one: {} for one in service_ids}
    for row in await conn.fetch(SQL_REGIONS, list(found)):
        available = Course(Condition(row["base_condition"]), row["base_since"], row["base_streak"], row["base_streak_since"])
        well = Course(Condition(row["well_condition"]), row["well_since"], row["well_streak"], row["well_streak_since"])
        base, degraded = Standing(available, well), set(row["degraded_slots"])
        slots = row["slots"]
        window = tuple(map(Observation, slots, row["healthy"], map(degraded.__contains__, slots)))
        silent_slot = -1 if row["silent_at"] is None else slot_of(row["silent_at"])
        found[row["service_id"]][row["region"]] = Region(row["region"], base, row["base_slot"], window, silent_slot)
    return found


async def save_regions(conn: Connection, changed: Sequence[tuple[str, Region]]) -> None:
    """Save regions of services, in one statement."""
    regions_ = [region for _, region in changed]
    await conn.execute(
        SQL_SAVE_REGIONS,
        [service_id for service_id, _ in changed],
        [region.name for region in regions_],
        # arrays of arrays cannot be unnested by rows, hence array literals
        [_literal(str(one.slot) for one in region.window) for region in regions_],
        [_literal("t" if one.healthy else "f" for one in region.window) for region in regions_],
        [_literal(str(one.slot) for one in region.window if one.degraded) for region in regions_],
        *_columns([region.base.available for region in regions_]),
        [region.base_slot for region in regions_],
        [moment(region.newest_slot) for region in regions_],
        *_columns([region.base.well for region in regions_]),
        [None if region.silent_slot < 0 else moment(region.silent_slot) for region in regions_],
    )


def _literal(elements: Iterable[str]) -> str:
    return "{" + ",".join(elements) + "}"


def _columns(courses: Sequence[Course]) -> tuple[list[str], list[int], list[int], list[int]]:
    return (
        [one.condition.value for one in courses],
        [one.since for one in courses],
        [one.streak for one in courses],
        [one.streak_since for one in courses],
    )


@dataclass(frozen=True, slots=True)
class Current:
    """The open status interval of a service."""

    version: int
    status: Status
    since: datetime
    down: tuple[str, ...]
    degraded: tuple[str, ...]
    silent: tuple[str, ...]
    confirmed_at: datetime | None
    said: Alerting


async def current_statuses(conn: Connection, service_ids: Sequence[str]) -> dict[str, Current]:
    """Return the present status of services that have one. The services are locked by the caller."""
    rows = await conn.fetch(SQL_CURRENT, service_ids)
    return {
        row["service_id"]: Current(
            row["version"],
            Status(row["status"]),
            row["started_at"],
            tuple(row["down"]),
            tuple(row["degraded"]),
            tuple(row["silent"]),
            row["confirmed_at"],
            Alerting(row["maintenance"], row["flapping"], row["muted_by"]),
        )
        for row in rows
    }


async def begin_intervals(conn: Connection, statuses_: Sequence[ServiceStatus]) -> None:
    """End the open interval of each service where its new one begins."""
    await conn.execute(SQL_END_INTERVALS, [one.service_id for one in statuses_], [one.since for one in statuses_])
    await conn.executemany(SQL_BEGIN_INTERVAL, [_interval(one) for one in statuses_])  # sent in one go


def _interval(status: ServiceStatus) -> tuple[object, ...]:
    evidence = status.evidence.model_dump(mode="json")
    proof = (evidence, status.degraded, status.maintenance, status.flapping, status.muted_by)
    times = (status.evidence.first_failed_at, status.evidence.confirmed_at)
    return (status.service_id, status.version, status.status.value, status.since, status.detected_at, *proof, *times)


async def statuses(conn: Connection, service_ids: Sequence[str] | None = None) -> list[ServiceStatus]:
    """Return the present statuses with their evidence, by service; of all services if none are named."""
    return [
        ServiceStatus(
            service_id=row["service_id"],
            status=Status(row["status"]),
            since=row["started_at"],
            detected_at=row["detected_at"],
            previous=None if row["previous"] is None else Status(row["previous"]),
            previous_since=row["previous_since"],
            previous_version=row["previous_version"],
            previous_muted_by=row["previous_muted_by"],
            evidence=Evidence.model_validate(row["evidence"]),
            degraded=row["degraded"],
            maintenance=row["maintenance"],
            flapping=row["flapping"],
            muted_by=row["muted_by"],
            version=row["version"],
        )
        for row in await conn.fetch(SQL_STATUSES, service_ids)
    ]


def _system(row: Record) -> SystemStatus:
    return SystemStatus(
        overall_status=OverallStatus(row["overall_status"]),
        operational_services=row["operational_services"],
        total_services=row["total_services"],
        active_incidents=row["active_incidents"],
        last_incident_at=row["last_incident_at"],
        message=row["message"],
        updated_at=row["updated_at"],
        version=row["version"],
    )


async def system(conn: Connection) -> SystemStatus:
    """Return the status of the whole."""
    return _system(await _row(conn, SQL_SYSTEM))


async def lock_system(conn: Connection) -> SystemStatus:
    """Return the status of the whole, locked until the transaction ends."""
    return _system(await _row(conn, SQL_LOCK_SYSTEM))


async def save_system(conn: Connection, whole: Whole, *, active_incidents: int, last_incident_at: datetime | None) -> SystemStatus:
    """Save the status of the whole as its next version, and return it. The row is locked by the caller."""
    values = (whole.overall.value, whole.operational, whole.total, active_incidents, last_incident_at, whole.message)
    return _system(await _row(conn, SQL_SAVE_SYSTEM, *values))


async def _row(conn: Connection, sql: str, *values: object) -> Record:
    row = await conn.fetchrow(sql, *values)
    if row is None:
        msg = "a row is gone that is never deleted, as that of system_status, which the first migration made"
        raise LookupError(msg)
    return row


async def counts_by_status(conn: Connection) -> Mapping[Status, int]:
    """Return how many watched services have each status."""
    return {Status(row["status"]): row["number"] for row in await conn.fetch(SQL_COUNTS)}


async def incident_counts(conn: Connection) -> tuple[int, datetime | None]:
    """Return how many incidents are open, and when the newest began."""
    row = await _row(conn, SQL_INCIDENT_COUNTS)
    return row["active"], row["last_at"]


async def see_incident(conn: Connection, incident_id: UUID, *, version: int, is_open: bool, started_at: datetime) -> None:
    """Note how an incident is, unless something newer is known of it."""
    await conn.execute(SQL_SEE_INCIDENT, incident_id, version, is_open, started_at)
