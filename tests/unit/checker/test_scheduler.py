"""The schedule at work: a real loop, short intervals, a probe that the test holds in its hand."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from services.checker import scheduler as module
from services.checker.probes.engine import EngineStopped
from services.checker.scheduler import BROKEN, MISSED, MISSED_EACH
from shared.contracts.codes import Outcome
from tests.unit.checker.bench import Bench, running, target
from tests.waiting import until


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


@pytest.mark.parametrize("ends", [True, False], ids=["by itself", "dropped"])
async def test_draining_begins_nothing_that_waits_for_a_place(*, ends: bool) -> None:
    """When it returns nothing runs. Seen red with the place of a check that ended or was dropped given to the next."""
    hold = asyncio.Event()

    def narrow(bench: Bench) -> None:
        bench.hold, bench.held, bench.total = hold, {"one", "two", "three"}, 1

    async with running(narrow) as bench:
        new = replace(target("one", interval_ms=60_000), created_ms=int(bench.now().timestamp() * 1000))  # its next slot is far away
        bench.scheduler.apply([new], ())
        await bench.begins()
        bench.scheduler.apply([target("two"), target("three")], ())
        await bench.delivers(2, "two")
        await bench.delivers(2, "three")
        seen = len(bench.delivered)
        asyncio.get_running_loop().call_soon(hold.set if ends else hold.clear)
        await bench.scheduler.drain(0.2)
        assert bench.running.total() == 0
        began = [check for check in bench.delivered[seen:] if check.measurement.outcome is H]
        assert [check.target.id for check in began] == (["one"] if ends else [])
        assert not [task for task in asyncio.all_tasks() if "_check" in repr(task.get_coro())]


F, H, U, D = Outcome.FAILED, Outcome.HEALTHY, Outcome.UNKNOWN, Outcome.DEGRADED


@pytest.mark.parametrize(
    ("outcomes", "attempts"),
    [
        ([F, F, H, H, H], [0, 1, 0, 1, 0]),  # down is confirmed by the first repetition, up by the second one
        ([F, H, F, F, F], [0, 1, 0, 1, 0]),
        ([F, U, U, F, F], [0, 1, 2, 3, 0]),
        ([D, D, H, D, H], [0, 0, 0, 0, 0]),
        ([U, U, H, U, H], [0, 0, 0, 0, 0]),
    ],
)
async def test_what_is_in_doubt_is_repeated_between_slots(outcomes: list[Outcome], attempts: list[int]) -> None:
    """Seen red with the next slot an interval after a repetition, and with unknown taken for a confirmation."""
    async with running(lambda bench: setattr(bench, "outcomes", [*outcomes])) as bench:
        now = int(bench.now().timestamp() * 1000)
        bench.scheduler.apply([target(interval_ms=800, retry_interval_ms=30)], (), done_ms={"one": now})  # so that the first one is on time
        await bench.delivers(5)
    checks = bench.delivered[:5]
    assert [check.measurement.outcome for check in checks] == outcomes
    assert [check.attempt for check in checks] == attempts
    slots = [check.slot_ms for check in checks]
    assert slots == sorted(set(slots))
    aligned = [check.slot_ms for check in checks if not check.attempt]
    assert {later - earlier for earlier, later in pairwise(aligned)} == {800}
    for before, after in pairwise(checks):
        if after.attempt:
            assert 30 <= after.slot_ms - before.slot_ms < 500


async def test_a_hastened_service_is_checked_at_once_and_keeps_its_slots() -> None:
    async with running() as bench:
        bench.scheduler.apply([target(interval_ms=100_000), target("other", interval_ms=100_000)], ())
        await bench.delivers(2)
        hastened = bench.now()
        bench.scheduler.hasten(["one", "nobody"])
        await bench.delivers(3)
        bench.scheduler.hasten(["one"])
        await bench.delivers(4)
    first, second, third = bench.of("one")
    assert (first.attempt, second.attempt, third.attempt) == (0, 1, 1)
    assert 0 <= second.slot_ms - int(hastened.timestamp() * 1000) < 1000
    assert third.slot_ms > second.slot_ms
    assert len(bench.of("other")) == 1


async def test_a_running_check_is_not_hastened() -> None:
    hold = asyncio.Event()
    async with running(lambda bench: setattr(bench, "hold", hold)) as bench:
        bench.scheduler.apply([target(), target("two")], ())
        await bench.begins()
        bench.scheduler.hasten(["one"])
        await bench.delivers(3, "two")
        hold.set()
        await bench.delivers(1, "one")
    assert bench.most == 1


async def test_what_is_taken_over_begins_after_what_was_done_and_claims_nothing_for_the_time_before() -> None:
    """Seen red with `done_ms` ignored, and with slots of the holder before told as missed: it may have done them and died."""
    async with running() as bench:
        now = int(bench.now().timestamp() * 1000)
        done = {"old": now - 4_300, "new": now}
        bench.scheduler.apply([target("old", interval_ms=1_000), target("new", interval_ms=1_000)], (), done_ms=done)
        await bench.delivers(3, "old")
        await bench.delivers(2, "new")
    for name, earliest in (("old", now - 1_000), ("new", now + 1)):
        slots = [check.slot_ms for check in bench.of(name)]
        assert earliest <= slots[0] <= now + 1_000
        assert {later - earlier for earlier, later in pairwise(slots)} == {1_000}
        assert {check.measurement.outcome for check in bench.of(name)} == {Outcome.HEALTHY}


async def test_released_services_run_no_more_and_it_is_told_up_to_when_they_are_done() -> None:
    """Seen red with a running check left to itself."""
    hold = asyncio.Event()
    async with running(lambda bench: setattr(bench, "hold", hold)) as bench:
        bench.scheduler.apply([target(), target("two"), target("three")], ())
        await bench.delivers(3, "two")
        before = bench.now()
        covered = await bench.scheduler.released(["two", "nobody"], 5)
        assert covered >= int(before.timestamp() * 1000) - 60  # a slot that came due just now may be owed
        seen = len(bench.of("two"))
        assert max(check.slot_ms for check in bench.of("two")) <= covered
        await bench.begins()
        covered = await bench.scheduler.released(["one"], 0.05)
        assert bench.running["one"] == 0
        assert covered < int(before.timestamp() * 1000)  # the slot of the check that was dropped is not done
        await bench.delivers(len(bench.delivered) + 3)
    assert len(bench.of("two")) == seen
    assert bench.of("one") == []


async def test_a_probe_that_does_not_end_takes_nothing_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its service is checked on, and its place is free. Seen red without a bound around the probe."""
    monkeypatch.setattr(module, "GRACE_S", 0.1)
    before = BROKEN._value.get()  # noqa: SLF001  # a counter has no public reading

    def stuck(bench: Bench) -> None:
        bench.hold, bench.total = asyncio.Event(), 1

    async with running(stuck) as bench:
        bench.scheduler.apply([target(interval_ms=1_000)], ())
        await bench.begins()
        bench.held.clear()  # the next one ends
        await bench.delivers(2)
        check, next_one = bench.delivered[:2]
        assert (check.measurement.outcome, check.measurement.error_message) == (U, "not checked: the probe did not end in time")
        assert BROKEN._value.get() == before + 1  # noqa: SLF001  # as above
        assert next_one.measurement.outcome is H


async def test_a_time_over_within_the_probe_is_a_defect_of_its_own() -> None:
    async with running(lambda bench: setattr(bench, "error", TimeoutError())) as bench:
        bench.scheduler.apply([target()], ())
        await bench.delivers(1)
    assert bench.delivered[0].measurement.error_message == "not checked: defect of the probe (TimeoutError)"
