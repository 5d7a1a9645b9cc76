"""Starts each service's check when its slot comes. In memory and beholden to nobody: neither database nor broker can stop it.

A service is in the heap only while it has no check running, so that two never run at once. Work that comes late is done late, up to one
interval; what is later is missed: told as unknown, and never as a failure of the service. Between slots a check is repeated where its
outcome is in doubt (domain/confirm.py), or made out of turn where somebody has reason to hasten it.
"""

import asyncio
import heapq
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from urllib.parse import urlsplit

from prometheus_client import Counter, Gauge, Histogram

from services.checker import assertions
from services.checker.domain import schedule
from services.checker.domain.confirm import UP, Standing, heard, repeat_at, retry_after
from services.checker.domain.target import Measurement, Target, not_looked
from services.checker.gate import Gate
from services.checker.probes.engine import EngineStopped
from shared.clock import Clock
from shared.contracts.codes import Outcome
from shared.telemetry import logger

LONGEST_REST_S = 1.0
"""A clock that was set is noticed within this time."""
TICK_MS = 20
"""Checks begin on ticks of the clock, so up to this late: what comes due meanwhile begins together, for half the CPU."""
START_SPREAD_MS = 5_000
"""A start, or many definitions at once, is spread over this time at most."""
IN_TIME_MS = 500
"""What begins this long before the next slot does not miss its own: a start is spread no longer, a take-over goes back no further."""
GRACE_S = 2.0
"""A probe ends by itself when its target's time is over; one that has not by then is taken for broken."""
MISSED_EACH = 60
MISSED_TOGETHER = 20_000
"""How many missed slots are told, of one service and of all, when a machine wakes up; the rest is counted only."""

SERVICES = Gauge("sla_checker_services", "Services that this process checks")
RUNNING = Gauge("sla_checker_checks_running", "Checks in flight")
STARTED = Counter("sla_checker_checks_started_total", "Checks begun", ["kind"])
REPEATED = Counter("sla_checker_checks_repeated_total", "Checks begun between slots: confirmations, and those that were hastened")
MISSED = Counter("sla_checker_slots_missed_total", "Slots that came more than one interval late: not checked, and told as unknown")
UNTOLD = Counter("sla_checker_slots_untold_total", "Missed slots that were not told: too many, or due before this process took them over")
BROKEN = Counter("sla_checker_probe_defects_total", "Checks that ended in a defect of the probe; they count as unknown")
LATENESS = Histogram(
    "sla_checker_lateness_seconds",
    "How late after its slot a check began",
    buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 60),
)
MISSED_SLOT = not_looked("the slot was missed")
NOTHING_DONE: Mapping[str, int] = MappingProxyType({})
log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Check:
    """One finished check: for which slot, when it really began, and what it found. `attempt` 1 and more: between slots."""

    target: Target
    slot_ms: int
    began: datetime
    measurement: Measurement
    attempt: int = 0


@dataclass(slots=True)
class _Entry:
    """A service in the schedule. `target` is None when it was removed while its check ran; `attempt` is that of the next check."""

    target: Target | None
    phase_ms: int
    host: str = ""
    slot_ms: int = 0
    due_ms: int = 0
    ticket: int = 0
    turn: int = 0
    done_ms: int | None = None
    attempt: int = 0
    standing: Standing = UP
    task: "asyncio.Task[None] | None" = None
    changed: bool = False


Probe = Callable[[Target], Awaitable[Measurement]]
Judge = Callable[[Measurement, Target], Measurement]
Settle = Callable[[Measurement, float], Awaitable[Measurement]]
"""Has the last word on a measurement, given the loop's time at which its check began."""


async def _as_it_is(found: Measurement, _began: float) -> Measurement:
    return found


class Scheduler:
    """The schedule of one process. `deliver` is called with every finished check, on the loop."""

    def __init__(
        self,
        *,
        region: str,
        probe: Probe,
        deliver: Callable[[Check], None],
        clock: Clock,
        total: int = 1000,
        per_host: int = 64,
        judge: Judge = assertions.judge,
        settle: Settle = _as_it_is,
    ) -> None:
        """Begin with nothing to check. At most `total` checks run at once, and `per_host` against one host."""
        self._region = region
        self._probe, self._judge, self._settle = probe, judge, settle
        self._deliver = deliver
        self._clock = clock
        self._gate: Gate[tuple[int, _Entry]] = Gate(total=total, per_host=per_host)
        self._entries: dict[str, _Entry] = {}
        self._heap: list[tuple[int, int, _Entry]] = []
        self._tickets = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._rest: asyncio.Future[None] | None = None
        self._ending = False

    def apply(self, targets: Iterable[Target], gone: Iterable[str], *, done_ms: Mapping[str, int] = NOTHING_DONE) -> None:
        """Take over definitions that are new or changed, and stop checking those that are gone.

        `done_ms`: up to which moment the slots of a service, by its id, are somebody else's: the next one after it is the first here,
        unless it is about an interval late or more.
        """
        for service_id in gone:
            entry = self._entries.get(service_id)
            if entry is None:
                continue
            entry.target, entry.ticket, entry.turn = None, 0, 0
            if entry.task is None:
                del self._entries[service_id]
        for target in targets:
            entry = self._entries.setdefault(target.id, _Entry(None, 0))
            entry.target = target
            entry.host = urlsplit(target.endpoint_url).hostname or ""
            entry.phase_ms = schedule.phase(target.id, self._region, target.interval_ms)
            entry.changed = True
            if entry.task is None:
                self._begin(entry, target, done_ms.get(target.id))
        SERVICES.set(sum(entry.target is not None for entry in self._entries.values()))
        self._wake()

    def hasten(self, ids: Iterable[str]) -> None:
        """Check these services now, out of turn; one whose check runs or waits for a place is about to be checked anyhow."""
        now = self._now_ms()
        for service_id in ids:
            entry = self._entries.get(service_id)
            if entry is None or entry.target is None or entry.task is not None or entry.turn:
                continue
            entry.attempt = entry.attempt or 1
            self._push(entry, now if entry.done_ms is None else max(now, entry.done_ms + 1))
        self._wake()

    async def released(self, ids: Iterable[str], within_s: float) -> int:
        """Give services up to another checker: when this returns, none of their checks runs any more.

        What runs longer than `within_s` is dropped. Returns up to which moment (ms) all their slots are done: the next holder's `done_ms`.
        """
        now = self._now_ms()
        entries = [entry for service_id in ids if (entry := self._entries.get(service_id)) is not None]
        running = {entry.task: entry.slot_ms for entry in entries if entry.task is not None}
        owed = [entry.slot_ms for entry in entries if entry.task is None]
        self.apply((), [entry.target.id for entry in entries if entry.target is not None])
        if running:
            _done, late = await asyncio.wait(running, timeout=within_s)
            owed += [running[task] for task in late]
            await _dropped(late)
        return min([*owed, now + 1]) - 1

    async def run(self) -> None:
        """Start checks as they come due, until cancelled."""
        while True:
            await self._sleep(self._start_due())

    async def drain(self, within_s: float) -> None:
        """Wait for running checks for a bounded time; what runs longer is dropped, as if its slot had not been looked at.

        None begins any more: what waits for a place does not get the one of a check that ends.
        """
        self._ending = True
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=within_s)
        while running := [task for task in self._tasks if not task.done()]:
            await _dropped(running)

    def _now_ms(self) -> int:
        return int(self._clock().timestamp() * 1000)

    def _begin(self, entry: _Entry, target: Target, elsewhere_ms: int | None = None) -> None:
        """Put a service whose definition is new or changed into the schedule."""
        now = self._now_ms()
        entry.changed, entry.attempt, entry.turn = False, 0, 0
        place = {"phase_ms": entry.phase_ms, "interval_ms": target.interval_ms}
        if elsewhere_ms is not None and (entry.done_ms is None or elsewhere_ms > entry.done_ms):
            entry.done_ms = elsewhere_ms
            slot = schedule.slot_after(elsewhere_ms, created_ms=target.created_ms, **place)
            # What is later than an interval came due for somebody else, who may have done it and died before saying so: it is not told,
            # because what is told first stands, and a made-up unknown must not take the place of what was really found.
            entry.slot_ms, passed = schedule.due_slot(slot, now + IN_TIME_MS, **place)
            UNTOLD.inc(passed)
            self._push(entry, entry.slot_ms)
            return
        slot = schedule.first_slot(now, created_ms=target.created_ms, done_ms=entry.done_ms, **place)
        spread = now + int(schedule.fraction(target.id, self._region) * min(target.interval_ms, START_SPREAD_MS))
        soon = min(spread, slot + target.interval_ms - IN_TIME_MS)
        entry.slot_ms = slot
        # A service that did not exist a moment ago is looked at at once; a whole list of old ones, after a start, is spread.
        self._push(entry, slot if slot >= now or now - target.created_ms < target.interval_ms else soon)

    def _push(self, entry: _Entry, due_ms: int) -> None:
        entry.due_ms = due_ms
        self._look_at(entry, due_ms)

    def _look_at(self, entry: _Entry, moment_ms: int) -> None:
        self._tickets += 1
        entry.ticket = self._tickets
        heapq.heappush(self._heap, (moment_ms, entry.ticket, entry))

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
                self._enter(entry, entry.target, now)
        return LONGEST_REST_S

    def _enter(self, entry: _Entry, target: Target, now: int) -> None:
        """Start a check that is due, or have it wait for a place; while it waits, each slot that it thereby misses is told."""
        if not entry.turn:
            if self._gate.enter(entry.host, (entry.ticket, entry)):
                self._start(entry, target, now)
                return
            entry.turn = entry.ticket
        self._tell_missed(entry, target, now)
        self._look_at(entry, entry.slot_ms + target.interval_ms + 1)

    def _leave(self, host: str) -> None:
        """Give a place back, and start who waited for it."""
        self._gate.leave(host)
        while not self._ending and (waiting := self._gate.next()) is not None:
            host, (turn, entry) = waiting
            if entry.turn == turn and entry.target is not None:
                self._start(entry, entry.target, self._now_ms())
            else:
                self._gate.leave(host)

    def _start(self, entry: _Entry, target: Target, now: int) -> None:
        entry.ticket = entry.turn = 0
        if entry.attempt and entry.slot_ms > now:
            slot_ms, attempt = entry.due_ms, entry.attempt
            REPEATED.inc()
        else:
            self._tell_missed(entry, target, now)
            slot_ms, attempt = entry.slot_ms, 0
            LATENESS.observe(max(0, now - max(entry.due_ms, slot_ms)) / 1000)
        STARTED.labels(target.kind).inc()
        entry.task = asyncio.create_task(self._check(entry, target, entry.host, slot_ms, attempt))
        self._tasks.add(entry.task)

    def _tell_missed(self, entry: _Entry, target: Target, now: int) -> None:
        """Pass over slots that are more than one interval late: unknown, and never a failure."""
        first = entry.slot_ms
        entry.slot_ms, missed = schedule.due_slot(first, now, phase_ms=entry.phase_ms, interval_ms=target.interval_ms)
        if not missed:
            return
        MISSED.inc(missed)
        most = min(MISSED_EACH, max(1, MISSED_TOGETHER // len(self._entries)))
        UNTOLD.inc(max(0, missed - most))
        began = self._clock()
        entry.done_ms = entry.slot_ms - 1
        for slot in schedule.missed_slots(first, entry.slot_ms, interval_ms=target.interval_ms, most=most):
            self._deliver(Check(target, slot, began, MISSED_SLOT))

    async def _check(self, entry: _Entry, target: Target, host: str, slot_ms: int, attempt: int) -> None:
        began, began_s = self._clock(), asyncio.get_running_loop().time()
        outcome = Outcome.UNKNOWN
        try:
            try:
                found = await self._measure(target)
            finally:
                self._leave(host)
            found = await self._settle(found, began_s)
            outcome = found.outcome
            self._deliver(Check(target, slot_ms, began, found, attempt))
        except EngineStopped:
            return
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._tasks.discard(task)
            self._after(entry, target, slot_ms, attempt, outcome)

    async def _measure(self, target: Target) -> Measurement:
        try:
            found = await self._bounded(target)
            if assertions.is_long_work(found, target):
                return await assertions.elsewhere(self._judge, found, target)
            return self._judge(found, target)
        except EngineStopped:
            raise
        except Exception as error:
            # A defect of ours says nothing about the service: unknown, and loud.
            BROKEN.inc()
            log.exception("probe failed", service_id=target.id, kind=target.kind)
            return not_looked(f"defect of the probe ({type(error).__name__})")

    async def _bounded(self, target: Target) -> Measurement:
        """Probe, and never wait for ever: a service whose check does not end would not be checked again."""
        bound = asyncio.timeout(target.timeout_ms / 1000 + GRACE_S)
        try:
            async with bound:
                return await self._probe(target)
        except TimeoutError:
            if not bound.expired():
                raise
            BROKEN.inc()
            log.exception("probe did not end", service_id=target.id, kind=target.kind)  # the trace says where it hung
            return not_looked("the probe did not end in time")

    def _after(self, entry: _Entry, checked: Target, slot_ms: int, attempt: int, outcome: Outcome) -> None:
        """Put the service back into the schedule, as its definition is by now."""
        entry.task = None
        entry.done_ms = slot_ms
        target = entry.target
        if target is None:
            if self._entries.get(checked.id) is entry:
                del self._entries[checked.id]
            return
        entry.standing = heard(
            entry.standing, outcome, failure_threshold=target.failure_threshold, recovery_threshold=target.recovery_threshold
        )
        if entry.changed:
            self._begin(entry, target)
        else:
            self._next(entry, target, slot_ms, attempt)
        self._wake_for(entry.due_ms)

    def _next(self, entry: _Entry, target: Target, slot_ms: int, attempt: int) -> None:
        """Push what comes next: the next slot, or before it a repetition of what is in doubt."""
        if not attempt:
            entry.slot_ms = schedule.next_slot(slot_ms, phase_ms=entry.phase_ms, interval_ms=target.interval_ms)
        repeat = None
        if entry.standing.contrary:
            after = retry_after(target.retry_interval_ms, target.interval_ms)
            repeat = repeat_at(entry.standing, self._now_ms(), after_ms=after, next_slot_ms=entry.slot_ms)
        entry.attempt = 0 if repeat is None else attempt + 1
        self._push(entry, entry.slot_ms if repeat is None else repeat)

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


async def _dropped(tasks: Iterable["asyncio.Task[None]"]) -> None:
    """Cancel these and wait for their end."""
    tasks = list(tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
