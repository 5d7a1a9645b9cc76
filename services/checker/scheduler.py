"""Starts each service's check when its slot comes. In memory and beholden to nobody: neither database nor broker can stop it.

A service is in the heap only while it has no check running, so that two never run at once. Work that comes late is done late, up to one
interval; what is later is skipped and counted, and never reported as a failure of the service.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import Counter, Gauge, Histogram

from services.checker.domain import schedule
from services.checker.domain.target import Measurement, Target, not_looked
from services.checker.probes.engine import EngineStopped
from shared.clock import Clock
from shared.telemetry import logger

LONGEST_REST_S = 1.0
"""A clock that was set is noticed within this time."""
TICK_MS = 20
"""Checks begin on ticks of the clock, so up to this late: what comes due meanwhile begins together, for half the CPU."""
START_SPREAD_MS = 5_000
"""A start, or many definitions at once, is spread over this time at most."""

SERVICES = Gauge("sla_checker_services", "Services that this process checks")
RUNNING = Gauge("sla_checker_checks_running", "Checks in flight")
STARTED = Counter("sla_checker_checks_started_total", "Checks begun", ["kind"])
SKIPPED = Counter("sla_checker_slots_skipped_total", "Slots that came more than one interval late and were not made up for")
BROKEN = Counter("sla_checker_probe_defects_total", "Checks that ended in a defect of the probe; they count as unknown")
LATENESS = Histogram(
    "sla_checker_lateness_seconds",
    "How late after its slot a check began",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Check:
    """One finished check: for which slot, when it really began, and what it found."""

    target: Target
    slot_ms: int
    began: datetime
    measurement: Measurement


@dataclass(slots=True)
class _Entry:
    """A service in the schedule. `target` is None when it was removed while its check ran."""

    target: Target | None
    phase_ms: int
    slot_ms: int = 0
    due_ms: int = 0
    ticket: int = 0
    done_ms: int | None = None
    running: bool = False
    changed: bool = False


Probe = Callable[[Target], Awaitable[Measurement]]


class Scheduler:
    """The schedule of one process. `deliver` is called with every finished check, on the loop."""

    def __init__(self, *, region: str, probe: Probe, deliver: Callable[[Check], None], clock: Clock) -> None:
        """Begin with nothing to check."""
        self._region = region
        self._probe = probe
        self._deliver = deliver
        self._clock = clock
        self._entries: dict[str, _Entry] = {}
        self._heap: list[tuple[int, int, _Entry]] = []
        self._tickets = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._rest: asyncio.Future[None] | None = None

    def apply(self, targets: Iterable[Target], gone: Iterable[str]) -> None:
        """Take over definitions that are new or changed, and stop checking those that are gone."""
        for service_id in gone:
            entry = self._entries.get(service_id)
            if entry is None:
                continue
            entry.target, entry.ticket = None, 0
            if not entry.running:
                del self._entries[service_id]
        for target in targets:
            entry = self._entries.setdefault(target.id, _Entry(None, 0))
            entry.target = target
            entry.phase_ms = schedule.phase(target.id, self._region, target.interval_ms)
            entry.changed = True
            if not entry.running:
                self._begin(entry, target)
        SERVICES.set(sum(entry.target is not None for entry in self._entries.values()))
        self._wake()

    async def run(self) -> None:
        """Start checks as they come due, until cancelled."""
        while True:
            await self._sleep(self._start_due())

    async def drain(self, within_s: float) -> None:
        """Wait for running checks for a bounded time; what runs longer is dropped, as if its slot had not been looked at."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)
        late = list(self._tasks)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _now_ms(self) -> int:
        return int(self._clock().timestamp() * 1000)

    def _begin(self, entry: _Entry, target: Target) -> None:
        """Put a service whose definition is new or changed into the schedule."""
        now = self._now_ms()
        entry.changed = False
        slot = schedule.first_slot(
            now, created_ms=target.created_ms, done_ms=entry.done_ms, phase_ms=entry.phase_ms, interval_ms=target.interval_ms
        )
        soon = now + int(schedule.fraction(target.id, self._region) * min(target.interval_ms, START_SPREAD_MS))
        entry.slot_ms = slot
        # A service that did not exist a moment ago is looked at at once; a whole list of old ones, after a start, is spread.
        self._push(entry, slot if slot >= now or now - target.created_ms < target.interval_ms else min(soon, slot + target.interval_ms))

    def _push(self, entry: _Entry, due_ms: int) -> None:
        self._tickets += 1
        entry.ticket, entry.due_ms = self._tickets, due_ms
        heapq.heappush(self._heap, (due_ms, entry.ticket, entry))

    def _start_due(self) -> float:
        """Start what is due; return how many seconds may be rested."""
        heap, now = self._heap, self._now_ms()
        RUNNING.set(len(self._tasks))
        while heap:
            due, ticket, entry = heap[0]
            if due > now:
                now = self._now_ms()
            if due > now:
                return min(LONGEST_REST_S, (due + -due % TICK_MS - now) / 1000)
            heapq.heappop(heap)
            if entry.ticket == ticket and entry.target is not None:
                self._start(entry, entry.target, now)
        return LONGEST_REST_S

    def _start(self, entry: _Entry, target: Target, now: int) -> None:
        entry.slot_ms, skipped = schedule.due_slot(entry.slot_ms, now, phase_ms=entry.phase_ms, interval_ms=target.interval_ms)
        if skipped:
            SKIPPED.inc(skipped)
        LATENESS.observe(max(0, now - max(entry.due_ms, entry.slot_ms)) / 1000)
        STARTED.labels(target.kind).inc()
        entry.running = True
        task = asyncio.create_task(self._check(entry, target, entry.slot_ms))
        self._tasks.add(task)

    async def _check(self, entry: _Entry, target: Target, slot_ms: int) -> None:
        began = self._clock()
        try:
            self._deliver(Check(target, slot_ms, began, await self._measure(target)))
        except EngineStopped:
            return
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._tasks.discard(task)
            self._after(entry, target, slot_ms)

    async def _measure(self, target: Target) -> Measurement:
        try:
            return await self._probe(target)
        except EngineStopped:
            raise
        except Exception as error:
            # A defect of ours says nothing about the service: unknown, and loud.
            BROKEN.inc()
            log.exception("probe failed", service_id=target.id, kind=target.kind)
            return not_looked(f"defect of the probe ({type(error).__name__})")

    def _after(self, entry: _Entry, checked: Target, slot_ms: int) -> None:
        """Put the service back into the schedule, as its definition is by now."""
        entry.running = False
        entry.done_ms = slot_ms
        target = entry.target
        if target is None:
            if self._entries.get(checked.id) is entry:
                del self._entries[checked.id]
            return
        if entry.changed:
            self._begin(entry, target)
        else:
            entry.slot_ms = schedule.next_slot(slot_ms, phase_ms=entry.phase_ms, interval_ms=target.interval_ms)
            self._push(entry, entry.slot_ms)
        self._wake_for(entry.due_ms)

    def _wake(self) -> None:
        if self._rest is not None and not self._rest.done():
            self._rest.set_result(None)

    def _wake_for(self, due_ms: int) -> None:
        """Wake only if this is the first thing to be done: most checks end long before the next one of theirs."""
        if self._heap and self._heap[0][0] == due_ms:
            self._wake()

    async def _sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._rest = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await self._rest
        finally:
            timer.cancel()
            self._rest = None
