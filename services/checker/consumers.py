"""Messages in, each to the one use case that it feeds. No decisions."""

from collections.abc import Callable

from services.checker import usecases
from services.checker.domain.hosts import HostRules
from shared import rpc, topology
from shared.consuming import Consumer, subscribe, subscribe_batches
from shared.contracts import commands
from shared.contracts.checks import CheckBatchV1
from shared.contracts.commands import Nothing, ServiceDraft, ServicePatch, ServiceRef, Services
from shared.contracts.envelope import Event
from shared.contracts.services import ServiceDefinition
from shared.contracts.status import ServiceStatusChangedV1
from shared.database import Pool, transaction

LOG_BATCHES = 50
LOG_WAIT_S = 0.2


def subscribe_all(consumer: Consumer, *, pool: Pool, rules: HostRules, changed: Callable[[], None]) -> None:
    """Connect everything that the checker consumes. `changed` is called after a definition was changed and committed."""
    subscribe_events(consumer, pool=pool)
    serve_commands(consumer, pool=pool, rules=rules, changed=changed)


def subscribe_events(consumer: Consumer, *, pool: Pool) -> None:
    """Connect the queues: results to be written down, and statuses to be copied."""

    async def on_status_changed(event: Event[ServiceStatusChangedV1]) -> None:
        async with transaction(pool) as conn:
            await usecases.apply_status(conn, event)

    async def on_measured(events: list[Event[CheckBatchV1]]) -> None:
        async with transaction(pool) as conn:
            await usecases.write_down(conn, events)

    subscribe(consumer, topology.CHECKER_EVENTS, {ServiceStatusChangedV1: on_status_changed})
    subscribe_batches(consumer, topology.CHECKER_WATCH_LOG, CheckBatchV1, on_measured, max_messages=LOG_BATCHES, max_wait_s=LOG_WAIT_S)


def serve_commands(consumer: Consumer, *, pool: Pool, rules: HostRules, changed: Callable[[], None]) -> None:
    """Answer what is asked on checker.rpc."""

    async def create(draft: ServiceDraft) -> ServiceDefinition:
        async with transaction(pool) as conn:
            service = await usecases.create(conn, draft, rules=rules)
        changed()
        return service

    async def change(patch: ServicePatch) -> ServiceDefinition:
        async with transaction(pool) as conn:
            service = await usecases.change(conn, patch, rules=rules)
        changed()
        return service

    async def remove(ref: ServiceRef) -> Nothing:
        async with transaction(pool) as conn:
            await usecases.remove(conn, ref)
        changed()
        return Nothing()

    async def list_services(_: Nothing) -> Services:
        async with pool.acquire() as conn:
            return await usecases.list_services(conn)

    async def get_service(ref: ServiceRef) -> ServiceDefinition:
        async with pool.acquire() as conn:
            return await usecases.get_service(conn, ref)

    rpc.serve(
        consumer,
        commands.CHECKER_RPC,
        {
            commands.SERVICES_CREATE: create,
            commands.SERVICES_CHANGE: change,
            commands.SERVICES_REMOVE: remove,
            commands.SERVICES_LIST: list_services,
            commands.SERVICES_GET: get_service,
        },
    )
