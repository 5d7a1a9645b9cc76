"""Places for checks: in all, and for each host. Who waits for one is late alone."""

import asyncio
from itertools import pairwise

from shared.contracts.codes import Outcome
from tests.unit.checker.bench import Bench, running, target
from tests.waiting import until

H, U = Outcome.HEALTHY, Outcome.UNKNOWN


async def test_a_hanging_host_holds_its_places_and_delays_nobody_else() -> None:
    """Ten services on one host hang, of which two may run: the other host's are on time. Seen red with waiting checks holding places."""
    hold = asyncio.Event()

    def slow(bench: Bench) -> None:
        bench.hold, bench.held = hold, {f"slow-{number}" for number in range(10)}
        bench.total, bench.per_host = 4, 2

    async with running(slow) as bench:
        bench.scheduler.apply([target(name, url="http://slow.test/") for name in bench.held], ())
        await bench.begins(2)
        bench.scheduler.apply([target("quick", url="http://quick.test/")], ())
        await bench.delivers(10, "quick")
        assert bench.running.total() == 2
        assert {check.measurement.outcome for check in bench.of("quick")} == {H}
        late = [check.began.timestamp() * 1000 - check.slot_ms for check in bench.of("quick")[1:]]
        assert sorted(late)[len(late) // 2] < 40
        missed = [check for check in bench.delivered if check.target.id in bench.held]
        assert {(check.measurement.outcome, check.measurement.error_message) for check in missed} <= {
            (U, "not checked: the slot was missed")
        }
        hold.set()
        for name in bench.held:
            await until(lambda name=name: looked_at(bench, name), within_s=5, what=name)  # type: ignore[misc]  # a lambda's default
    assert bench.most_together <= 4


async def looked_at(bench: Bench, name: str) -> bool:
    return any(check.measurement.outcome is H for check in bench.of(name))


async def test_what_waits_for_a_place_misses_its_slots_and_says_so_while_it_waits() -> None:
    """Seen red with missed slots told only once a place was free."""
    hold = asyncio.Event()

    def narrow(bench: Bench) -> None:
        bench.hold, bench.total = hold, 1

    async with running(narrow) as bench:
        bench.scheduler.apply([target()], ())
        await bench.begins()
        bench.scheduler.apply([target("two")], ())
        await bench.delivers(4, "two")
        assert {check.measurement.outcome for check in bench.of("two")} == {U}
        hold.set()
        await until(lambda: looked_at(bench, "two"), within_s=5, what="two's turn")
    slots = [check.slot_ms for check in bench.of("two")]
    assert slots == sorted(set(slots))
    assert {later - earlier for earlier, later in pairwise(slots)} == {50}


async def test_a_service_removed_or_changed_while_it_waits_takes_no_place_with_it() -> None:
    hold = asyncio.Event()

    def narrow(bench: Bench) -> None:
        bench.hold, bench.total = hold, 1

    async with running(narrow) as bench:
        bench.scheduler.apply([target()], ())
        await bench.begins()
        bench.scheduler.apply([target("two"), target("three"), target("four")], ())
        await bench.delivers(2, "two")
        bench.scheduler.apply([target("three", interval_ms=60)], ["two"])
        seen = len(bench.of("two"))
        hold.set()
        for name in ("one", "three", "four"):
            await until(lambda name=name: looked_at(bench, name), within_s=5, what=name)  # type: ignore[misc]  # a lambda's default
    assert len(bench.of("two")) == seen
    assert bench.most_together == 1
