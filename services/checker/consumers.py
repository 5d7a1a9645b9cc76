"""Messages in, each to the one use case that it feeds. No decisions."""

from collections.abc import Awaitable, Callable
from typing import Any

from services.checker import pushes, usecases
from services.checker.drafts import Terms
from shared import rpc, topology
from shared.consuming import Consumer, subscribe, subscribe_batches
from shared.contracts import commands
from shared.contracts.checks import CheckBatchV1
from shared.contracts.commands import (
    Kinds,
    Method,
    Nothing,
    Plan,
    PushSignal,
    PushToken,
    ServiceDraft,
    ServicePatch,
    ServiceRef,
    Services,
    ServiceSet,
    Trial,
)
from shared.contracts.envelope import Event
from shared.contracts.services import ServiceDefinition
from shared.contracts.status import ServiceStatusChangedV1
from shared.database import Pool, transaction
from shared.rpc import Answerer

LOG_BATCHES = 50
LOG_WAIT_S = 0.2

Try = Callable[[ServiceDraft], Awaitable[Trial]]
Answers = dict[Method[Any, Any], Answerer]


def subscribe_all(consumer: Consumer, *, pool: Pool, terms: Terms, changed: Callable[[], None], try_once: Try) -> None:
    """Connect everything that the checker consumes. `changed` is called after a definition was changed and committed."""
    subscribe_events(consumer, pool=pool)
    serve_commands(consumer, pool=pool, terms=terms, changed=changed, try_once=try_once)


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


def serve_commands(consumer: Consumer, *, pool: Pool, terms: Terms, changed: Callable[[], None], try_once: Try) -> None:
    """Answer what is asked on checker.rpc."""
    answers: Answers = {commands.CHECKS_TRY: try_once}
    answers |= _changing(pool, terms, changed)
    answers |= _reading(pool)
    answers |= _pushed(pool, changed)
    rpc.serve(consumer, commands.CHECKER_RPC, answers)


def _changing(pool: Pool, terms: Terms, changed: Callable[[], None]) -> Answers:
    async def create(draft: ServiceDraft) -> ServiceDefinition:
        async with transaction(pool) as conn:
            service = await usecases.create(conn, draft, rules=terms.rules, sealer=terms.sealer)
        changed()
        return service

    async def change(patch: ServicePatch) -> ServiceDefinition:
        async with transaction(pool) as conn:
            service = await usecases.change(conn, patch, rules=terms.rules, sealer=terms.sealer)
        changed()
        return service

    async def remove(ref: ServiceRef) -> Nothing:
        async with transaction(pool) as conn:
            await usecases.remove(conn, ref)
        changed()
        return Nothing()

    async def apply(wanted: ServiceSet) -> Plan:
        async with transaction(pool) as conn:
            plan = await usecases.apply(conn, wanted, rules=terms.rules, sealer=terms.sealer)
        changed()
        return plan

    return {
        commands.SERVICES_CREATE: create,
        commands.SERVICES_CHANGE: change,
        commands.SERVICES_REMOVE: remove,
        commands.SERVICES_APPLY: apply,
    }


def _reading(pool: Pool) -> Answers:
    async def list_services(_: Nothing) -> Services:
        async with pool.acquire() as conn:
            return await usecases.list_services(conn)

    async def get_service(ref: ServiceRef) -> ServiceDefinition:
        async with pool.acquire() as conn:
            return await usecases.get_service(conn, ref)

    async def kinds(_: Nothing) -> Kinds:
        return usecases.kinds()

    return {commands.SERVICES_LIST: list_services, commands.SERVICES_GET: get_service, commands.KINDS_DESCRIBE: kinds}


def _pushed(pool: Pool, changed: Callable[[], None]) -> Answers:
    async def signal(said: PushSignal) -> Nothing:
        async with transaction(pool) as conn:
            await pushes.record(conn, said)
        changed()
        return Nothing()

    async def renew_token(ref: ServiceRef) -> PushToken:
        async with transaction(pool) as conn:
            return await pushes.renew_token(conn, ref)

    return {commands.PUSH_SIGNAL: signal, commands.PUSH_RENEW_TOKEN: renew_token}
