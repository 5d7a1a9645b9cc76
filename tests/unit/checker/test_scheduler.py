"""The schedule at work: a real loop, short intervals, a probe that the test holds in its hand."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise

from services.checker.domain.target import Measurement, Target
from services.checker.probes.engine import EngineStopped
from services.checker.probes.http import HttpOptions
from services.checker.scheduler import BROKEN, MISSED, MISSED_EACH, Check, Scheduler
from shared.clock import utc_now
from shared.contracts.codes import Outcome
from tests.waiting import until


def target(service_id: str = "one", *, interval_ms: int = 50) -> Target:
    return Target(service_id, "http", "http://127.0.0.1/", interval_ms, 40, HttpOptions(), 0, 1)


@dataclass(slots=True)
class Bench:
    """A scheduler, what it delivered, and how its probe behaves."""

    scheduler: Scheduler = field(init=False)
    delivered: list[Check] = field(default_factory=list)
    running: Counter[str] = field(default_factory=Counter)
    most: int = 0
    hold: asyncio.Event | None = None
    error: Exception | None = None
    offset: timedelta = timedelta(0)

    async def probe(self, one: Target) -> Measurement:
        self.running[one.id] += 1
        self.most = max(self.most, self.running[one.id])
        try:
            if self.error:
                raise self.error
            if self.hold and one.id == "one":
                await self.hold.wait()
            return Measurement(Outcome.HEALTHY)
        finally:
            self.running[one.id] -= 1

    def now(self) -> datetime:
        return utc_now() + self.offset

    async def delivers(self, number: int) -> None:
        async def enough() -> bool:
            return len(self.delivered) >= number

        await until(enough, within_s=5, what=f"{number} checks")


@asynccontextmanager
async def running(change: Callable[[Bench], None] = lambda _: None) -> AsyncIterator[Bench]:
    bench = Bench()
    change(bench)
    bench.scheduler = Scheduler(region="r", probe=bench.probe, deliver=bench.delivered.append, clock=bench.now)
    loop = asyncio.create_task(bench.scheduler.run())
    yield bench
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    await bench.scheduler.drain(0.2)


async def test_each_slot_is_checked_once_and_in_order() -> None:
    async with running() as bench:
        bench.scheduler.apply([target()], ())
        await bench.delivers(6)
    slots = [check.slot_ms for check in bench.delivered]
    assert slots == sorted(set(slots))
    assert {later - earlier for earlier, later in pairwise(slots)} == {50}


async def test_a_service_never_has_two_checks_running_whatever_is_changed_meanwhile() -> None:
    """Seen red with `apply` beginning an entry that is running."""
    hold = asyncio.Event()
    async with running(lambda bench: setattr(bench, "hold", hold)) as bench:
        bench.scheduler.apply([target()], ())

        async def begun() -> bool:
            return bench.running["one"] == 1

        await until(begun, within_s=5, what="the first check")
        for interval in (60, 70, 80):
            bench.scheduler.apply((), ["one"])
            bench.scheduler.apply([target(interval_ms=interval), target("two")], ())
            await bench.delivers(len(bench.delivered) + 5)  # of the other: time for a second check of this one, if it were to begin
        hold.set()
        await bench.delivers(len(bench.delivered) + 5)
    assert bench.most == 1
    assert len({(check.target.id, check.slot_ms) for check in bench.delivered}) == len(bench.delivered)


async def test_a_removed_service_is_checked_no_more() -> None:
    async with running() as bench:
        bench.scheduler.apply([target("one"), target("two")], ())
        await bench.delivers(4)
        bench.scheduler.apply((), ["one"])
        seen = len(bench.delivered)
        await bench.delivers(seen + 4)
        late = [check for check in bench.delivered[seen:] if check.target.id == "one"]
        assert len(late) <= 1  # the one that ran at that moment


async def test_slots_missed_while_the_machine_slept_are_told_as_unknown_counted_and_few() -> None:
    """Seen red with missed slots passed over in silence, and with all of them told."""
    before = MISSED._value.get()  # noqa: SLF001  # a counter has no public reading
    async with running() as bench:
        bench.scheduler.apply([target()], ())
        await bench.delivers(2)
        bench.offset = timedelta(seconds=10)
        await until(lambda: healthy_after(bench, MISSED_EACH), within_s=5, what="checks after the sleep")
    missed = [check for check in bench.delivered if check.measurement.outcome is not Outcome.HEALTHY]
    assert 190 <= MISSED._value.get() - before <= 210  # noqa: SLF001  # as above
    assert {(check.measurement.outcome, check.measurement.error_message) for check in missed} == {
        (Outcome.UNKNOWN, "not checked: the slot was missed")
    }
    assert len(missed) == MISSED_EACH
    slots = [check.slot_ms for check in bench.delivered]
    assert slots == sorted(set(slots))
    assert missed[-1].slot_ms - missed[0].slot_ms == 50 * (MISSED_EACH - 1)


async def healthy_after(bench: Bench, number: int) -> bool:
    return len(bench.delivered) > number and bench.delivered[-1].measurement.outcome is Outcome.HEALTHY


async def test_a_defect_of_a_probe_is_unknown_and_counted_and_the_service_goes_on_being_checked() -> None:
    before = BROKEN._value.get()  # noqa: SLF001  # a counter has no public reading
    async with running(lambda bench: setattr(bench, "error", KeyError("defect"))) as bench:
        bench.scheduler.apply([target()], ())
        await bench.delivers(2)
    assert {check.measurement.outcome for check in bench.delivered} == {Outcome.UNKNOWN}
    assert BROKEN._value.get() - before >= 2  # noqa: SLF001  # as above


async def test_what_the_stopping_engine_gave_up_is_not_reported() -> None:
    async with running(lambda bench: setattr(bench, "error", EngineStopped("stopped"))) as bench:
        bench.scheduler.apply([target()], ())

        async def tried() -> bool:
            return bench.most > 0

        await until(tried, within_s=5, what="a check")
    assert bench.delivered == []


async def test_draining_drops_what_takes_too_long() -> None:
    hold = asyncio.Event()
    async with running(lambda bench: setattr(bench, "hold", hold)) as bench:
        bench.scheduler.apply([target()], ())

        async def begun() -> bool:
            return bench.running["one"] == 1

        await until(begun, within_s=5, what="the first check")
    assert bench.running["one"] == 0
    assert bench.delivered == []
