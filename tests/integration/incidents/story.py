"""What the aggregator and the checker say, for tests of incidents; and what incidents says, read from its outbox."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from services.incidents import usecases
from services.incidents.consumers import Wiring
from services.incidents.domain.lifecycle import Policy
from shared.contracts.codes import Status
from shared.contracts.commands import IncidentQuery
from shared.contracts.envelope import Event, event_id
from shared.contracts.incidents import Incident
from shared.contracts.registry import decode
from shared.contracts.services import ServiceDefinition, ServiceRegisteredV1
from shared.contracts.status import Evidence, ServiceStatus, ServiceStatusChangedV1
from shared.database import Pool, transaction
from shared.messaging import Publisher
from shared.rpc import Client

START = datetime(2026, 3, 10, 9, 0, tzinfo=UTC)
O, PO, MO, ND, E = Status.OPERATIONAL, Status.PARTIAL_OUTAGE, Status.MAJOR_OUTAGE, Status.NO_DATA, Status.EMPTY  # noqa: E741  # as everybody knows them


@dataclass(frozen=True, slots=True)
class Edge:
    """The service's edge: somebody who asks it, somebody who says things, and what it runs on."""

    client: Client
    publisher: Publisher
    wiring: Wiring


def at(minute: float) -> datetime:
    """Return a moment of the story."""
    return START + timedelta(minutes=minute)


def history(*statuses: Status, service_id: str = "id-recognition") -> list[ServiceStatus]:
    """Return what the aggregator says of a service, one status a minute."""
    return [
        ServiceStatus(
            service_id=service_id,
            status=status,
            since=at(version),
            detected_at=at(version),
            previous=statuses[version - 2] if version > 1 else None,
            previous_since=at(version - 1) if version > 1 else None,
            previous_version=version - 1,
            evidence=Evidence(reason="as the story goes"),
            version=version,
        )
        for version, status in enumerate(statuses, start=1)
    ]


def definition(service_id: str = "id-recognition", *, version: int = 1, is_active: bool = True) -> ServiceDefinition:
    """Return a definition."""
    return ServiceDefinition(
        id=service_id,
        name="ID Recognition",
        display_name="ID Recognition",
        kind="http",
        endpoint_url="http://127.0.0.1:9/",
        check_interval=2000,
        timeout=1000,
        failure_threshold=2,
        recovery_threshold=2,
        is_active=is_active,
        created_at=START,
        updated_at=at(50),
        version=version,
    )


def muted(one: ServiceStatus, *, since: float | None = None) -> ServiceStatus:
    """Return a status of a history that nobody is to be alerted of."""
    return one.model_copy(update={"muted_by": "dependency:database"} | ({} if since is None else {"since": at(since)}))


async def hear(pool: Pool, *statuses: ServiceStatus) -> None:
    """Let the service follow statuses, each in a transaction of its own, as the consumer does."""
    for one in statuses:
        identity = str(event_id(ServiceStatusChangedV1.TYPE, one.service_id, one.version))
        async with transaction(pool) as conn:
            await usecases.follow_status(conn, identity, one, now=at(60), policy=Policy())


async def learn(pool: Pool, one: ServiceDefinition, *, removed_at: datetime | None = None) -> None:
    """Let the service learn a definition."""
    identity = str(event_id(ServiceRegisteredV1.TYPE, one.id, one.version))
    async with transaction(pool) as conn:
        await usecases.learn_service(conn, identity, one, removed_at=removed_at, now=at(60))


async def incidents(pool: Pool) -> list[Incident]:
    """Return all incidents with their timelines, newest first."""
    async with transaction(pool) as conn:
        return list((await usecases.newest(conn, IncidentQuery())).incidents)


async def said(pool: Pool) -> list[Event[Any]]:
    """Return the events that the outbox holds, in order."""
    return [decode(row["type"], row["body"].encode()) for row in await pool.fetch("select type, body from outbox order by position")]


async def told(pool: Pool, incident_id: UUID | None = None) -> list[tuple[str, int]]:
    """Return the type and incident version of each event, of one incident or of all."""
    events = [one for one in await said(pool) if incident_id is None or one.data.incident.id == incident_id]
    return [(one.type, one.data.incident.version) for one in events]
