"""The edge: events and requests in, one use case each. Translate, call, nothing else."""

from dataclasses import dataclass
from typing import Any

from services.incidents import maintenances, usecases
from services.incidents.domain.lifecycle import Policy
from shared.clock import Clock
from shared.consuming import Consumer, subscribe
from shared.contracts.commands import (
    INCIDENTS_GET,
    INCIDENTS_LIST,
    INCIDENTS_OPEN,
    INCIDENTS_RPC,
    INCIDENTS_UPDATE,
    MAINTENANCE_CHANGE,
    MAINTENANCE_LIST,
    MAINTENANCE_SCHEDULE,
    IncidentDraft,
    IncidentEntry,
    IncidentQuery,
    IncidentRef,
    Incidents,
    Method,
)
from shared.contracts.envelope import Event
from shared.contracts.history import MaintenanceChange, MaintenanceDraft, MaintenanceQuery, Maintenances
from shared.contracts.incidents import Incident
from shared.contracts.maintenance import Maintenance
from shared.contracts.services import ServiceRegisteredV1, ServiceRemovedV1, ServiceUpdatedV1
from shared.contracts.status import ServiceStatusChangedV1
from shared.database import Pool, transaction
from shared.outbox import Relay
from shared.rpc import Answerer, serve
from shared.topology import INCIDENTS_EVENTS

Answers = dict[Method[Any, Any], Answerer]


@dataclass(frozen=True, slots=True)
class Wiring:
    """What messages are handled with."""

    consumer: Consumer
    pool: Pool
    relay: Relay
    clock: Clock
    policy: Policy


def subscribe_events(wiring: Wiring) -> None:
    """Connect each event that this service consumes to the one use case it feeds."""
    pool, relay, clock = wiring.pool, wiring.relay, wiring.clock

    async def on_status_changed(event: Event[ServiceStatusChangedV1]) -> None:
        async with transaction(pool) as conn:
            await usecases.follow_status(conn, str(event.id), event.data.status, now=clock(), policy=wiring.policy)
        relay.wake()

    async def on_definition(event: Event[Any]) -> None:
        async with transaction(pool) as conn:
            await usecases.learn_service(conn, str(event.id), event.data.service, removed_at=None, now=clock())
        relay.wake()

    async def on_removed(event: Event[ServiceRemovedV1]) -> None:
        async with transaction(pool) as conn:
            await usecases.learn_service(conn, str(event.id), event.data.service, removed_at=event.data.removed_at, now=clock())
        relay.wake()

    subscribe(
        wiring.consumer,
        INCIDENTS_EVENTS,
        {
            ServiceStatusChangedV1: on_status_changed,
            ServiceRegisteredV1: on_definition,
            ServiceUpdatedV1: on_definition,
            ServiceRemovedV1: on_removed,
        },
    )


def answer(wiring: Wiring) -> None:
    """Answer what reporters ask and do."""
    pool, relay, clock = wiring.pool, wiring.relay, wiring.clock

    async def newest(query: IncidentQuery) -> Incidents:
        async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            return await usecases.newest(conn, query)

    async def get(ref: IncidentRef) -> Incident:
        async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            return await usecases.get(conn, ref)

    async def open_by_hand(draft: IncidentDraft) -> Incident:
        async with transaction(pool) as conn:
            incident = await usecases.open_by_hand(conn, draft, now=clock(), policy=wiring.policy)
        relay.wake()
        return incident

    async def update(entry: IncidentEntry) -> Incident:
        async with transaction(pool) as conn:
            incident = await usecases.add_entry(conn, entry, now=clock())
        relay.wake()
        return incident

    methods: Answers = {INCIDENTS_LIST: newest, INCIDENTS_GET: get, INCIDENTS_OPEN: open_by_hand, INCIDENTS_UPDATE: update}
    serve(wiring.consumer, INCIDENTS_RPC, {**methods, **_about_maintenance(wiring)})


def _about_maintenance(wiring: Wiring) -> Answers:
    pool, relay = wiring.pool, wiring.relay

    async def newest(query: MaintenanceQuery) -> Maintenances:
        async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            return await maintenances.newest(conn, query)

    async def schedule(draft: MaintenanceDraft) -> Maintenance:
        async with transaction(pool) as conn:
            window = await maintenances.schedule(conn, draft)
        relay.wake()
        return window

    async def change(wanted: MaintenanceChange) -> Maintenance:
        async with transaction(pool) as conn:
            window = await maintenances.change(conn, wanted)
        relay.wake()
        return window

    return {MAINTENANCE_LIST: newest, MAINTENANCE_SCHEDULE: schedule, MAINTENANCE_CHANGE: change}


async def keep_time(wiring: Wiring) -> int:
    """Begin and end the maintenance windows whose time has come; return how many there were."""
    total = 0
    while some := await _advance(wiring.pool):
        total += some
        wiring.relay.wake()
    return total


async def _advance(pool: Pool) -> int:
    async with transaction(pool) as conn:
        return await maintenances.advance(conn)
