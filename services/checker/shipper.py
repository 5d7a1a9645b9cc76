"""Brings finished checks to the broker: collected for a moment, written to the spool, published, and forgotten once confirmed.

Fresh batches go out as they are made; what the spool held from before (or kept while the broker was away) follows in between, from both
ends: mostly the oldest, and always some of the newest, which say how things are now. A batch keeps its id through every attempt, and its
checks keep theirs, so that sending twice counts once.
"""

import asyncio
import sqlite3
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar
from uuid import UUID, uuid4

import prometheus_client
from prometheus_client import Gauge

from services.checker.results import to_batches
from services.checker.scheduler import Check
from services.checker.spool import GIVEN_UP, Batch, Spool
from shared import topology
from shared.clock import Clock
from shared.contracts.envelope import Event
from shared.contracts.registry import encode
from shared.database import backoff
from shared.health import Health
from shared.messaging import NotConfirmed, Outgoing, Publisher
from shared.runtime import background
from shared.telemetry import logger

FLUSH_S = 0.1
FLUSH_AT = 200
IN_FLIGHT = 256
"""Fresh batches under way at once: more than a broker that confirms at all leaves open before a publish is given up."""
OLDEST_AT_ONCE = 6
NEWEST_AT_ONCE = 2
IN_MEMORY = 500
SAY_AGAIN_S = 60.0
DRAIN_S = 2.0

COLLECTED = prometheus_client.Counter("sla_checker_results_total", "Finished checks", ["outcome"])
SHIPPED = prometheus_client.Counter("sla_checker_results_shipped_total", "Finished checks that the broker confirmed")
DISK_REFUSED = prometheus_client.Counter("sla_checker_spool_errors_total", "Times the spool's disk refused")
UNSPOOLED = Gauge("sla_checker_unspooled_batches", "Batches that are in memory only, because the spool's disk refuses")
log = logger(__name__)
T = TypeVar("T")


class Shipper:
    """What was measured and is not confirmed yet. See `shipping`."""

    def __init__(
        self,
        spool: Spool,
        publisher: Publisher,
        *,
        region: str,
        checker: str,
        clock: Clock,
        health: Health,
        new_id: Callable[[], UUID] = uuid4,
    ) -> None:
        """`checker` names this process in every batch."""
        self._spool = spool
        self._publisher = publisher
        self._region, self.checker = region, checker
        self._clock, self._new_id = clock, new_id
        self._health = health
        self._collected: list[Check] = []
        self._said: list[Batch] = []
        self._given_up = 0
        self._say_given_up_at = 0.0
        self._some, self._many, self._backlog = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._disk = ThreadPoolExecutor(1, thread_name_prefix="spool")
        self._in_flight: dict[str, asyncio.Task[bool]] = {}
        self._flushing: asyncio.Task[None] | None = None
        self._fresh: set[str] = set()  # on their way to the disk: not the backlog's yet
        self._unspooled: deque[Batch] = deque()
        self._broker_answers = True
        self._backlog.set()  # what the last process left behind

    def add(self, check: Check) -> None:
        """Take a finished check over."""
        self._collected.append(check)
        if len(self._collected) == 1:
            self._some.set()
        if len(self._collected) >= FLUSH_AT:
            self._many.set()

    def say(self, event: Event[Any]) -> None:
        """Take an event over: it goes the way of results, by the spool, and so survives the broker's absence."""
        self._said.append(Batch(str(event.id), 0, encode(event), topology.EVENTS, event.type))
        self._some.set()

    async def run(self) -> None:
        """Flush ten times a second, or as soon as a batch is full, until cancelled."""
        while True:
            await self._some.wait()
            try:
                async with asyncio.timeout(FLUSH_S):
                    await self._many.wait()
            except TimeoutError:
                pass  # the moment is over: what came, goes
            # Shielded: being stopped in the midst of a flush must lose nothing; drain() waits for its end.
            self._flushing = asyncio.create_task(self.flush())
            await asyncio.shield(self._flushing)

    async def flush(self) -> None:
        """Write what was collected to the spool and begin to publish it."""
        checks, self._collected = self._collected, []
        said, self._said = self._said, []
        self._some.clear()
        self._many.clear()
        for outcome, number in Counter(check.measurement.outcome for check in checks).items():
            COLLECTED.labels(outcome).inc(number)
        for start in range(0, len(checks), FLUSH_AT):
            some = checks[start : start + FLUSH_AT]
            for batch in to_batches(some, new_id=self._new_id, region=self._region, checker=self.checker, at=self._clock()):
                await self._begin(batch)
        for batch in said:
            await self._begin(batch)

    async def _begin(self, batch: Batch) -> None:
        """Bring a fresh batch to the disk, then on its way."""
        self._fresh.add(batch.batch_id)
        await self._keep(batch)
        self._fresh.discard(batch.batch_id)
        if self._broker_answers and len(self._in_flight) < IN_FLIGHT:
            _sending = self._send(batch)  # _in_flight holds it
        else:
            self._backlog.set()

    async def run_backlog(self) -> None:
        """Send what waits in the spool, a few at a time, until cancelled."""
        waits = backoff(most_s=1.0)
        while True:
            await self._backlog.wait()
            self._backlog.clear()
            waiting = await self._waiting()
            if not waiting:
                continue
            self._backlog.set()
            if all(await asyncio.gather(*(self._send(batch) for batch in waiting))):
                waits = backoff(most_s=1.0)
            else:
                await asyncio.sleep(next(waits))

    async def drain(self, within_s: float = DRAIN_S) -> None:
        """Flush, and publish for a bounded time; the rest stays in the spool for the next process."""
        # Outside the bound: however slow the disk is, what is in memory only would be gone.
        if self._flushing is not None:
            await asyncio.shield(self._flushing)
        await asyncio.shield(asyncio.create_task(self.flush()))
        try:
            async with asyncio.timeout(within_s):
                await asyncio.gather(*self._in_flight.values())
                while (waiting := await self._waiting()) and all(await asyncio.gather(*(self._send(batch) for batch in waiting))):
                    pass
        except TimeoutError:
            log.warning("results stay in the spool for the next process", bytes=self._spool.size_bytes)

    async def close(self) -> None:
        """Stop publishing and release the disk."""
        tasks = list(self._in_flight.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._disk.shutdown(wait=True)

    def _send(self, batch: Batch) -> "asyncio.Task[bool]":
        task = asyncio.create_task(self._publish(batch))
        self._in_flight[batch.batch_id] = task
        task.add_done_callback(lambda _: self._in_flight.pop(batch.batch_id, None))
        return task

    async def _publish(self, batch: Batch) -> bool:
        """Publish one batch and forget it; False if the broker did not confirm it."""
        message = Outgoing(batch.exchange, batch.routing_key, batch.body, batch.batch_id, UUID(batch.batch_id).hex)
        try:
            await self._publisher.publish(message)
        except NotConfirmed as error:
            if self._broker_answers:
                log.warning("results wait in the spool", reason=str(error))
            self._broker_answers = False
            self._backlog.set()
            return False
        if not self._broker_answers:
            log.info("results leave the spool again")
        self._broker_answers = True
        SHIPPED.inc(batch.results)
        await self._forget(batch)
        return True

    async def _keep(self, batch: Batch) -> None:
        """Append to the spool, with what it refused before; while it refuses, keep a bounded number in memory."""
        self._unspooled.append(batch)
        try:
            while self._unspooled:
                first = self._unspooled[0]
                self._gave_up(await self._on_disk(partial(self._spool.append, first)))
                if first in self._unspooled:  # else the broker confirmed it meanwhile
                    self._unspooled.remove(first)
        except sqlite3.Error as error:
            self._disk_refused(error)
            while len(self._unspooled) > IN_MEMORY:
                lost = self._unspooled.popleft().results
                GIVEN_UP.inc(lost)
                self._gave_up(lost)
        else:
            self._health.set("spool", ok=True)
        UNSPOOLED.set(len(self._unspooled))

    async def _forget(self, batch: Batch) -> None:
        if batch in self._unspooled:
            self._unspooled.remove(batch)
            return
        try:
            await self._on_disk(lambda: self._spool.delete([batch]))
        except sqlite3.Error as error:
            # It stays and is sent once more some day: its checks are known by their ids and count once.
            self._disk_refused(error)

    async def _waiting(self) -> list[Batch]:
        """Return a few batches that nobody is sending."""
        taken = self._in_flight.keys() | self._fresh
        try:
            stored = await self._on_disk(partial(_ends, self._spool, taken))
        except sqlite3.Error as error:
            self._disk_refused(error)
            stored = []
        known = {batch.batch_id for batch in stored}
        taken = self._in_flight.keys() | self._fresh  # some may have come while the disk was asked
        unspooled = [batch for batch in self._unspooled if batch.batch_id not in known][:OLDEST_AT_ONCE]
        return [batch for batch in (*stored, *unspooled) if batch.batch_id not in taken]

    def _gave_up(self, lost: int) -> None:
        """Say, once a minute at most, that results are lost; and once there is room again, that it is over."""
        if self._given_up and not lost and self._spool.has_room:
            self._health.set("spool room", ok=True)
        if not lost:
            return
        self._given_up += lost
        self._health.set("spool room", ok=False, reason=f"full: the oldest results are given up, {self._given_up} so far")
        now = asyncio.get_running_loop().time()
        if now >= self._say_given_up_at:
            self._say_given_up_at = now + SAY_AGAIN_S
            log.error("the spool is full: the oldest results are given up", given_up=self._given_up, bytes=self._spool.size_bytes)

    def _disk_refused(self, error: sqlite3.Error) -> None:
        DISK_REFUSED.inc()
        self._health.set("spool", ok=False, reason=f"the disk refuses: {error}")

    async def _on_disk(self, act: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, act)


def _ends(spool: Spool, taken: AbstractSet[str]) -> list[Batch]:
    oldest = spool.oldest(OLDEST_AT_ONCE, without=taken)
    return [*oldest, *spool.newest(NEWEST_AT_ONCE, without=taken | {batch.batch_id for batch in oldest})]


@asynccontextmanager
async def shipping(
    spool: Spool, publisher: Publisher, *, region: str, checker: str, clock: Clock, health: Health
) -> AsyncIterator[Shipper]:
    """Run a shipper; when left, flush to the spool and publish for a bounded time."""
    shipper = Shipper(spool, publisher, region=region, checker=checker, clock=clock, health=health)
    try:
        async with background(health, "shipper", shipper.run), background(health, "shipper backlog", shipper.run_backlog):
            yield shipper
        await shipper.drain()
    finally:
        await shipper.close()
