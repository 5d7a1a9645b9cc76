"""SQL of incidents, their timelines, and the services that they follow. Locks: the service first, then its incident."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime
from uuid import UUID

from asyncpg import Record

from services.incidents.domain.incident import Decision, Entry, Incident
from services.incidents.domain.lifecycle import Fact, Service
from shared.contracts.codes import IncidentStatus, Priority, Severity, Status
from shared.contracts.commands import IncidentQuery
from shared.contracts.services import ServiceDefinition
from shared.database import Connection

SQL_INTRODUCE = "insert into service (id) values ($1) on conflict do nothing"
SQL_LOCK_SERVICE = "select * from service where id = $1 for update"
SQL_LEARN = "update service set version = $2, name = $3, is_active = $4, removed_at = $5 where id = $1"
SQL_HEARD = "update service set status_version = $2, status = $3, status_since = $4 where id = $1"
SQL_UNKNOWN = """
select asked.id from unnest($1::text[]) as asked (id)
 where not exists (select from service s where s.id = asked.id and s.version > 0 and s.removed_at is null)
 order by asked.id"""

SQL_LOCK_OPEN = """
select * from incident
 where service_id = $1 and resolved_at is null
   for update                                                   -- served by incident_one_open_per_service
"""

SQL_COVERED = """
select version from unnest($2::integer[]) as asked (version)
 where exists (select from incident i where i.service_id = $1 and i.first_version <= asked.version
                  and (i.last_version is null or i.last_version >= asked.version))"""

SQL_FIND = "select * from incident where id = $1"
SQL_LOCK = "select * from incident where id = $1 for update"

SQL_INSERT = """
insert into incident (id, title, description, status, severity, priority, affected_services, started_at, identified_at, resolved_at,
                      duration_minutes, impact_description, root_cause, resolution_notes, created_by, resolved_by, version,
                      service_id, first_version, last_version)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)
    on conflict (id) do nothing"""

SQL_UPDATE = """
update incident
   set title = $2, description = $3, status = $4, severity = $5, priority = $6, affected_services = $7, started_at = $8, identified_at = $9,
       resolved_at = $10, duration_minutes = $11, impact_description = $12, root_cause = $13, resolution_notes = $14, created_by = $15,
       resolved_by = $16, version = $17, service_id = $18, first_version = $19, last_version = $20
 where id = $1 and version < $17"""

SQL_ADD_ENTRY = """
insert into incident_update (id, incident_id, status, message, is_customer_visible, created_by, created_at, position)
values ($1, $2, $3, $4, $5, $6, $7, $8)"""

SQL_ENTRY_OF = "select incident_id from incident_update where id = $1"

SQL_TIMELINES = """
select id, incident_id, status, message, is_customer_visible, created_by, created_at
  from incident_update where incident_id = any($1::uuid[]) order by incident_id, position"""

# A statement for each sort of question: one for all would be planned for any of them, and read the whole table for a service's few.
_LIST = """
select * from (
    select * from incident
     where started_at < coalesce($2::timestamptz, 'infinity') {which}
     order by started_at desc
     fetch first $1 rows with ties                               -- the next page begins before this one's last moment: all of it is here
) page
 order by started_at desc, id"""
_OPEN, _OF_SERVICE = "and resolved_at is null", "and affected_services @> array[$3::text]"
SQL_LIST = _LIST.format(which="")  # served by incident_newest_first
SQL_LIST_OPEN = _LIST.format(which=_OPEN)  # served by incident_open
SQL_LIST_OF_SERVICE = _LIST.format(which=_OF_SERVICE)  # served by incident_by_affected_service
SQL_LIST_OPEN_OF_SERVICE = _LIST.format(which=f"{_OPEN} {_OF_SERVICE}")  # served by incident_open


async def lock_service(conn: Connection, service_id: str) -> Service:
    """Return what is known of a service, locked until the transaction ends; its id stands for a name that was not heard yet."""
    await conn.execute(SQL_INTRODUCE, service_id)
    return _service(await conn.fetchrow(SQL_LOCK_SERVICE, service_id), service_id)


def _service(row: Record | None, service_id: str) -> Service:
    if row is None:
        return Service(service_id, service_id, None)
    heard = Fact(Status(row["status"]), row["status_since"], row["status_version"]) if row["status_version"] else None
    return Service(service_id, row["name"] or service_id, heard)


async def learn(conn: Connection, definition: ServiceDefinition, *, removed_at: datetime | None) -> Service | None:
    """Take over a definition unless a newer one is known; return the service as it was taken over, locked."""
    await conn.execute(SQL_INTRODUCE, definition.id)
    row = await conn.fetchrow(SQL_LOCK_SERVICE, definition.id)
    known = row["version"] if row else 0
    removal = removed_at is not None and row is not None and row["removed_at"] is None and definition.version == known
    if definition.version <= known and not removal:
        return None
    await conn.execute(SQL_LEARN, definition.id, definition.version, definition.name, definition.is_active, removed_at)
    return replace(_service(row, definition.id), name=definition.name)


async def heard(conn: Connection, service_id: str, fact: Fact) -> None:
    """Note the newest status of a service. The row is locked by the caller."""
    await conn.execute(SQL_HEARD, service_id, fact.version, fact.status.value, fact.since)


async def unknown_services(conn: Connection, service_ids: Sequence[str]) -> list[str]:
    """Return those of the ids that name no service that is known and not removed."""
    return [row["id"] for row in await conn.fetch(SQL_UNKNOWN, service_ids)]


async def lock_open_incident(conn: Connection, service_id: str) -> Incident | None:
    """Return the service's open automatic incident, locked until the transaction ends."""
    row = await conn.fetchrow(SQL_LOCK_OPEN, service_id)
    return None if row is None else _incident(row)


async def covered(conn: Connection, service_id: str, versions: Collection[int]) -> set[int]:
    """Return those versions of a service's status that an incident covers."""
    return {row["version"] for row in await conn.fetch(SQL_COVERED, service_id, list(versions))}


async def find(conn: Connection, incident_id: UUID) -> Incident | None:
    """Return an incident by id."""
    row = await conn.fetchrow(SQL_FIND, incident_id)
    return None if row is None else _incident(row)


async def lock(conn: Connection, incident_id: UUID) -> Incident | None:
    """Return an incident by id, locked until the transaction ends. Lock its service first, if it has one."""
    row = await conn.fetchrow(SQL_LOCK, incident_id)
    return None if row is None else _incident(row)


async def entry_of(conn: Connection, entry_id: UUID) -> UUID | None:
    """Return the incident whose timeline has an entry with this id."""
    found: UUID | None = await conn.fetchval(SQL_ENTRY_OF, entry_id)
    return found


async def save(conn: Connection, steps: Sequence[Decision]) -> bool:
    """Save an incident as its last step leaves it, with the entries of all. False if its id is taken: somebody opened it before.

    One that is opened and resolved in one go is never open in the table, so it may lie beside one that is open since.
    """
    one = steps[-1].incident
    sql = SQL_INSERT if steps[0].incident.version == 1 else SQL_UPDATE
    tag = await conn.execute(
        sql,
        one.id,
        one.title,
        one.description,
        one.status.value,
        one.severity.value,
        one.priority.value,
        list(one.affected_services),
        one.started_at,
        one.identified_at,
        one.resolved_at,
        one.duration_minutes,
        one.impact_description,
        one.root_cause,
        one.resolution_notes,
        one.created_by,
        one.resolved_by,
        one.version,
        one.service_id,
        one.first_version,
        one.last_version,
    )
    if not tag.endswith(" 1"):
        return False
    for step in steps:
        entry = step.entry
        values = (entry.status.value, entry.message, entry.is_customer_visible, entry.created_by, entry.created_at, step.incident.version)
        await conn.execute(SQL_ADD_ENTRY, entry.id, one.id, *values)
    return True


async def newest(conn: Connection, query: IncidentQuery) -> list[Incident]:
    """Return a page of incidents, newest first; those of one moment by id. It is longer than its limit if its last moment is shared."""
    page = (query.limit, query.before)
    if query.service_id is None:
        rows = await conn.fetch(SQL_LIST_OPEN if query.open_only else SQL_LIST, *page)
    else:
        rows = await conn.fetch(SQL_LIST_OPEN_OF_SERVICE if query.open_only else SQL_LIST_OF_SERVICE, *page, query.service_id)
    return [_incident(row) for row in rows]


async def timelines(conn: Connection, incident_ids: Sequence[UUID]) -> dict[UUID, list[Entry]]:
    """Return the timelines of incidents, oldest entry first."""
    found: dict[UUID, list[Entry]] = {one: [] for one in incident_ids}
    for row in await conn.fetch(SQL_TIMELINES, incident_ids):
        entry = Entry(
            row["id"], IncidentStatus(row["status"]), row["message"], row["created_by"], row["created_at"], row["is_customer_visible"]
        )
        found[row["incident_id"]].append(entry)
    return found


def _incident(row: Record) -> Incident:
    return Incident(
        id=row["id"],
        title=row["title"],
        description=row["description"],
        status=IncidentStatus(row["status"]),
        severity=Severity(row["severity"]),
        priority=Priority(row["priority"]),
        affected_services=tuple(row["affected_services"]),
        started_at=row["started_at"],
        identified_at=row["identified_at"],
        resolved_at=row["resolved_at"],
        duration_minutes=row["duration_minutes"],
        impact_description=row["impact_description"],
        root_cause=row["root_cause"],
        resolution_notes=row["resolution_notes"],
        created_by=row["created_by"],
        resolved_by=row["resolved_by"],
        version=row["version"],
        service_id=row["service_id"],
        first_version=row["first_version"],
        last_version=row["last_version"],
    )
