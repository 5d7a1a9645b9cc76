"""The edge: messages and requests in, one use case each."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from aio_pika.exceptions import AMQPError, ChannelInvalidStateError
from faststream.exceptions import IncorrectState
from faststream.rabbit import Channel

from services.aggregator import alarms, answers, days, followups, series, usecases
from services.aggregator.domain.calendar import LocalDays
from services.aggregator.domain.intake import Intake, look
from services.aggregator.domain.muting import USUAL, Flapping
from shared.clock import Clock
from shared.consuming import Consumer, subscribe, subscribe_batches
from shared.contracts.checks import CallBatchV1, CheckBatchV1, CheckerIsolatedV1, CheckerRecoveredV1
from shared.contracts.commands import AGGREGATOR_RPC, SERIES_READ, STATUS_OVERVIEW, UPTIME_READ, Nothing, Overview, Uptime, UptimeQuery
from shared.contracts.envelope import Event
from shared.contracts.history import Series, SeriesQuery
from shared.contracts.incidents import IncidentOpenedV1, IncidentResolvedV1, IncidentUpdatedV1
from shared.contracts.maintenance import MaintenanceEndedV1, MaintenanceScheduledV1, MaintenanceStartedV1, MaintenanceUpdatedV1
from shared.contracts.services import ServiceRegisteredV1, ServiceRemovedV1, ServiceUpdatedV1
from shared.database import Pool, is_transient, transaction
from shared.outbox import Relay
from shared.rpc import serve
from shared.topology import AGGREGATOR_CALLS, AGGREGATOR_CHECKS, AGGREGATOR_EVENTS

ASK_S = 2.0
"""How long the broker may take to say what is waiting."""
LOOKING = Channel(prefetch_count=1)
"""A channel of its own for the question: were the queue gone, the broker would close the channel that asks."""


FRESH = timedelta(minutes=1)
"""SLA contracts are looked at if nothing was waiting so lately: a burst now and then delays nothing."""


class Storing:
    """Whether the last results that came could be stored, and since when results are taken as they come."""

    def __init__(self) -> None:
        """Begin as able."""
        self.able = True
        self.emptied_at: datetime | None = None
        """When nothing was waiting last: what was sent before is stored, or about to be."""
        self._intake = Intake()

    def look(self, *, now: datetime, waiting: int | None) -> datetime | None:
        """Return since when silence is the services' own, or None if it may be ours. `waiting`: messages in the queue, None if unknown."""
        self._intake = look(self._intake, now=now, waiting=waiting, storing=self.able)
        if waiting == 0 and self.able:
            self.emptied_at = now
        return self._intake.listening_since

    def unsettle(self) -> None:
        """Begin anew to measure silence: nothing could be looked up."""
        self._intake = Intake()


@dataclass(frozen=True, slots=True)
class Wiring:
    """What messages are handled with."""

    consumer: Consumer
    pool: Pool
    relay: Relay
    clock: Clock
    storing: Storing
    flapping: Flapping = USUAL
    days: LocalDays = usecases.UTC_DAYS
    kept: series.Kept = field(default_factory=series.Kept)
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when statuses or windows changed: others may have to be judged again."""

    def told(self) -> None:
        """Something was committed that is to be sent, and may concern other services."""
        self.relay.wake()
        self.moved.set()


def subscribe_checks(wiring: Wiring, *, max_messages: int, max_wait_s: float) -> None:
    """Fold batches of results, many in one transaction."""
    pool, clock, storing = wiring.pool, wiring.clock, wiring.storing

    async def on_batches(batches: list[Event[CheckBatchV1]]) -> None:
        try:
            await usecases.introduce_strangers(pool, batches)
            async with transaction(pool) as conn:
                folded = await usecases.fold(conn, batches, now=clock(), flapping=wiring.flapping, days=wiring.days)
        except Exception as error:
            storing.able = not is_transient(error)  # such a list is held, and with it all that comes after
            raise
        storing.able = True
        if folded.changed:
            wiring.told()

    subscribe_batches(wiring.consumer, AGGREGATOR_CHECKS, CheckBatchV1, on_batches, max_messages=max_messages, max_wait_s=max_wait_s)


def subscribe_calls(wiring: Wiring) -> None:
    """Store calls of real traffic that were reported."""

    async def on_calls(event: Event[CallBatchV1]) -> None:
        async with transaction(wiring.pool) as conn:
            await usecases.keep_calls(conn, event)

    subscribe(wiring.consumer, AGGREGATOR_CALLS, {CallBatchV1: on_calls})


def subscribe_events(wiring: Wiring) -> None:
    """Follow what others say of services and incidents."""
    pool, clock, flapping = wiring.pool, wiring.clock, wiring.flapping

    async def on_definition(event: Event[Any]) -> None:
        removed_at = event.data.removed_at if isinstance(event.data, ServiceRemovedV1) else None
        async with transaction(pool) as conn:
            await usecases.learn_service(conn, str(event.id), event.data.service, removed_at=removed_at, now=clock(), flapping=flapping)
        wiring.told()

    async def on_maintenance(event: Event[Any]) -> None:
        async with transaction(pool) as conn:
            await followups.hear_maintenance(conn, str(event.id), event.data.maintenance)
        wiring.told()

    async def on_incident(event: Event[Any]) -> None:
        async with transaction(pool) as conn:
            await usecases.count_incident(conn, str(event.id), event.data.incident)
        wiring.told()

    async def on_checker(event: Event[Any]) -> None:
        await followups.hear_checker(pool, event.data)

    subscribe(
        wiring.consumer,
        AGGREGATOR_EVENTS,
        {
            ServiceRegisteredV1: on_definition,
            ServiceUpdatedV1: on_definition,
            ServiceRemovedV1: on_definition,
            IncidentOpenedV1: on_incident,
            IncidentUpdatedV1: on_incident,
            IncidentResolvedV1: on_incident,
            MaintenanceScheduledV1: on_maintenance,
            MaintenanceUpdatedV1: on_maintenance,
            MaintenanceStartedV1: on_maintenance,
            MaintenanceEndedV1: on_maintenance,
            CheckerIsolatedV1: on_checker,
            CheckerRecoveredV1: on_checker,
        },
    )


def answer(wiring: Wiring) -> None:
    """Answer deep reads."""
    pool, clock = wiring.pool, wiring.clock

    async def overview(_params: Nothing) -> Overview:
        async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            return await usecases.overview(conn)

    async def uptime(params: UptimeQuery) -> Uptime:
        async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            return await days.read_uptime(conn, params, now=clock(), zone=wiring.days.zone)

    async def series_(params: SeriesQuery) -> Series:
        async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            return await series.read(conn, params, now=clock(), zone=wiring.days.zone, kept=wiring.kept)

    serve(
        wiring.consumer,
        AGGREGATOR_RPC,
        {
            STATUS_OVERVIEW: overview,
            UPTIME_READ: uptime,
            SERIES_READ: series_,
            **answers.about_the_past(pool, clock),
            **answers.about_contracts(pool, clock),
        },
    )


async def watch_silence(wiring: Wiring) -> int:
    """Look once whether services fell silent; return how many regions did."""
    settled_since = wiring.storing.look(now=wiring.clock(), waiting=await waiting(wiring.consumer))
    if settled_since is None:
        return 0
    total = 0
    while silent := await usecases.declare_silent(wiring.pool, settled_since=settled_since, now=wiring.clock(), flapping=wiring.flapping):
        total += silent
        wiring.told()
    return total


async def follow_up(wiring: Wiring) -> int:
    """Judge all services again that are to be, then the whole; return how many services were."""
    wiring.moved.clear()
    total = 0
    while some := await followups.recheck(wiring.pool, now=wiring.clock(), flapping=wiring.flapping):
        total += some
        wiring.relay.wake()
    if await followups.recheck_whole(wiring.pool, now=wiring.clock()):
        wiring.relay.wake()
    return total


async def watch_contracts(wiring: Wiring, *, stored_until: datetime | None) -> int | None:
    """Look once at all SLA contracts; return how much was said, None if results still wait to be stored or another replica looks.

    `stored_until`: what was sent before is surely stored; None: nothing is sure, and no window that ended is judged.
    """
    now, emptied_at = wiring.clock(), wiring.storing.emptied_at
    if emptied_at is None or now - emptied_at > FRESH:
        return None
    said = await alarms.look(wiring.pool, now=now, stored_until=stored_until)
    if said:
        wiring.relay.wake()
    return said


async def waiting(consumer: Consumer) -> int | None:
    """Return how many messages of results lie in the queue, not yet given to any replica; None if the broker does not say."""
    try:
        async with asyncio.timeout(ASK_S):
            channel = await consumer.broker.config.channel_manager.get_channel(LOOKING)
            # one layer down: aio-pika answers a passive declaration of a queue that it knows from memory, with the count of that time
            link = await channel.get_underlay_channel()
            declared = await link.queue_declare(AGGREGATOR_CHECKS.name, passive=True)
    except (AMQPError, ChannelInvalidStateError, IncorrectState, OSError, TimeoutError, RuntimeError):
        return None  # the intake then counts as not settled, which is what it is
    count: int | None = declared.message_count
    return count
