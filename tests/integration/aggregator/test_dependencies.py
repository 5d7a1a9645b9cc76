"""A service and one that it depends on fail and come back at different moments: who is alerted of, and when.

Both are checked every 2 s with a timeout of 1 s and thresholds of 2, so a fair chance lasts 2 x 2 s + 1 s + 5 s: five slots.
"""

import asyncio

import pytest

from services.aggregator import followups
from shared.contracts.codes import Status
from shared.database import Pool, open_pool
from shared.health import Health
from tests.integration.aggregator.story import at, batch, definition, fold, learn, results, see, service_changes
from tests.servers import Database

O, PO, MO, ND = Status.OPERATIONAL, Status.PARTIAL_OUTAGE, Status.MAJOR_OUTAGE, Status.NO_DATA  # noqa: E741  # the codes as everybody knows them
BLAMED = "dependency:liveness"


async def stack(pool: Pool, *, quorum: str = "majority") -> None:
    """Make portal stand on liveness, both well for two slots."""
    await learn(pool, definition("liveness"))
    await learn(pool, definition("portal", depends_on=("liveness",), quorum=quorum))
    await fold(pool, *(batch(results("++", service_id=one)) for one in ("liveness", "portal")), now=at(2))


async def follow(pool: Pool, slot: float) -> None:
    """Judge again all that is to be by then."""
    while await followups.recheck(pool, now=at(slot)):
        pass


async def told(pool: Pool, service_id: str = "portal") -> list[tuple[Status, str | None]]:
    """Return each status since the service worked first, with why nobody is alerted of it."""
    changes = await service_changes(pool, service_id)
    return [(one.status, one.muted_by) for one in changes[2:]]


def alerts(changes: list[tuple[Status, str | None]]) -> list[Status]:
    """Return the outages that somebody is alerted of."""
    return [status for status, muted_by in changes if status in {PO, MO} and muted_by is None]


async def both_down(pool: Pool) -> None:
    """Let both fail in slots 2 and 3, liveness first."""
    await stack(pool)
    await see(pool, "--", first=2, service_id="liveness")
    await see(pool, "--", first=2, service_id="portal")
    assert await told(pool) == [(MO, BLAMED)]


async def test_a_dependent_that_comes_back_after_its_dependency_alerts_nobody(pool: Pool) -> None:
    """Seen red with the mute ended as soon as the dependency is back: a false alert of a second."""
    await both_down(pool)
    await see(pool, "++", first=4, service_id="liveness")  # back at 5.5
    await follow(pool, 6)
    await see(pool, "-", first=4, service_id="portal")
    await follow(pool, 9)
    await see(pool, "++", first=8, service_id="portal")
    await follow(pool, 60)

    assert await told(pool) == [(MO, BLAMED), (O, None)]
    assert await pool.fetchval("select count(*) from recheck") == 0


async def test_a_dependent_that_comes_back_first_alerts_nobody(pool: Pool) -> None:
    await both_down(pool)
    await see(pool, "++", first=4, service_id="portal")
    await see(pool, "++", first=4, service_id="liveness")
    await follow(pool, 60)

    assert await told(pool) == [(MO, BLAMED), (O, None)]


async def test_what_is_heard_of_both_in_one_go_alerts_nobody_either(pool: Pool) -> None:
    """The dependency is back, and the dependent is not, in one transaction. Seen red with only the written rows looked at."""
    await both_down(pool)
    await fold(pool, batch(results("++", first=4, service_id="liveness")), batch(results("--", first=4, service_id="portal")), now=at(5.5))
    await follow(pool, 10.4)
    assert await told(pool) == [(MO, BLAMED)]

    await follow(pool, 10.6)
    assert await told(pool) == [(MO, BLAMED), (MO, None)]


async def test_a_dependent_that_stays_down_alerts_when_its_chance_is_over(pool: Pool, database: Database) -> None:
    """Also after a restart in between. Seen red with the chance never over, and with it kept in memory."""
    await both_down(pool)
    await see(pool, "++", first=4, service_id="liveness")  # back at 5.5: the chance lasts until 10.5
    await follow(pool, 6)
    await see(pool, "----", first=4, service_id="portal")
    async with open_pool(database.url("aggregator"), name="restarted", health=Health("test")) as other:
        await follow(other, 10.4)
        assert alerts(await told(other)) == []

        await asyncio.gather(*(follow(other, 10.6) for _ in range(3)))

        assert await told(other) == [(MO, BLAMED), (MO, None)]
        last = (await service_changes(other, "portal"))[-1]
        assert (last.since, last.previous_muted_by, last.detected_at) == (at(2), BLAMED, at(10.6))


async def test_what_begins_to_fail_after_the_dependency_is_back_alerts_at_once(pool: Pool) -> None:
    """Seen red with every outage within the chance muted."""
    await both_down(pool)
    await see(pool, "++", first=4, service_id="liveness")
    await see(pool, "++", first=4, service_id="portal")
    await see(pool, "--", first=6, service_id="portal")  # the chance lasts until 10.5
    await follow(pool, 8)

    assert await told(pool) == [(MO, BLAMED), (O, None), (MO, None)]


async def test_what_failed_because_of_an_outage_that_is_over_alerts_nobody(pool: Pool) -> None:
    """Its own checks confirm it only when the dependency is back. Seen red with only those given a chance that were muted before."""
    await stack(pool)
    await see(pool, "--", first=2, service_id="liveness")
    await see(pool, "++", first=4, service_id="liveness")
    await see(pool, "---", first=3, service_id="portal")
    await see(pool, "++", first=6, service_id="portal")
    await follow(pool, 60)

    assert await told(pool) == [(MO, BLAMED), (O, None)]


async def test_a_second_outage_of_the_dependency_begins_a_second_chance(pool: Pool) -> None:
    """Seen red with the first chance that is over ending the mute."""
    await both_down(pool)
    for first in (4, 8):
        await see(pool, "++", first=first, service_id="liveness")  # back at 5.5 and 9.5
        await follow(pool, first + 2)
        if first == 4:
            await see(pool, "--", first=6, service_id="liveness")
            await follow(pool, 8)
    await follow(pool, 14.4)
    assert await told(pool) == [(MO, BLAMED)]

    await follow(pool, 14.6)
    assert await told(pool) == [(MO, BLAMED), (MO, None)]


async def test_a_dependent_that_is_confirmed_first_waits_for_its_dependency(pool: Pool) -> None:
    """Seen red with failing checks of a dependency not looked at: it alerted half a second before."""
    await stack(pool)
    await see(pool, "-", first=2, service_id="liveness")
    await see(pool, "--", first=2, service_id="portal")
    await follow(pool, 3.6)
    assert await told(pool) == [(MO, BLAMED)]

    await see(pool, "-", first=3, service_id="liveness")
    await follow(pool, 4)
    await follow(pool, 60)
    assert await told(pool) == [(MO, BLAMED)], "its dependency is down"
    assert await told(pool, "liveness") == [(MO, None)]

    await see(pool, "++", first=60, service_id="liveness")
    await see(pool, "++", first=60, service_id="portal")
    await follow(pool, 100)
    assert (alerts(await told(pool)), (await told(pool))[-1]) == ([], (O, None))


async def test_when_the_dependency_works_after_all_the_dependent_alerts_at_once(pool: Pool) -> None:
    """Seen red without the question to those who wait."""
    await stack(pool)
    await see(pool, "-", first=2, service_id="liveness")
    await see(pool, "--", first=2, service_id="portal")
    await see(pool, "+", first=3, service_id="liveness")
    await follow(pool, 4.1)

    assert await told(pool) == [(MO, BLAMED), (MO, None)]


async def test_nobody_waits_for_ever_for_a_dependency_that_is_not_checked_again(pool: Pool) -> None:
    """Seen red with another wait begun when the first is over."""
    await stack(pool)
    await see(pool, "-", first=2, service_id="liveness")
    await see(pool, "--", first=2, service_id="portal")  # at 3.5: until 8.5
    await follow(pool, 8.4)
    assert alerts(await told(pool)) == []

    await follow(pool, 8.6)
    assert await told(pool) == [(MO, BLAMED), (MO, None)]
    await see(pool, "-", first=4, service_id="portal")
    await follow(pool, 60)
    assert await told(pool) == [(MO, BLAMED), (MO, None)]


async def test_what_was_told_is_not_taken_back_for_a_dependency_that_only_fails_once(pool: Pool) -> None:
    """Seen red with what was told among what may wait."""
    await stack(pool)
    await see(pool, "--", first=2, service_id="portal")
    await see(pool, "-", first=4, service_id="liveness")
    await see(pool, "+", first=2, service_id="portal", region="us")
    await see(pool, "-", first=5, service_id="portal")
    await follow(pool, 7)

    assert [status for status, muted_by in await told(pool) if muted_by] == []


@pytest.mark.parametrize("status", [MO, PO])
async def test_a_dependency_that_is_no_longer_one_mutes_nobody(pool: Pool, status: Status) -> None:
    """Seen red with `depends_on` not looked at."""
    await both_down(pool)
    if status is PO:
        await see(pool, "+", first=2, service_id="portal", region="us")
        await see(pool, "+", first=2, service_id="portal", region="ap")
    await see(pool, "++", first=4, service_id="liveness")
    await learn(pool, definition("portal", version=2, depends_on=("other",)), now=at(7))

    last = (await service_changes(pool, "portal"))[-1]
    assert (last.status, last.muted_by) == (status, None)


async def test_two_that_wait_for_each_other_do_not_ask_each_other_without_an_end(pool: Pool) -> None:
    """Each is down from one region, and fails from another. Seen red with those asked who wait for a service that is only judged again."""
    names = ("liveness", "portal")
    for one, other in zip(names, names[::-1], strict=True):
        await learn(pool, definition(one, depends_on=(other,)))
    await fold(pool, *(batch(results("++", service_id=one, region=name)) for one in names for name in ("eu", "us")), now=at(2))
    await fold(pool, *(batch(results("-", first=2, service_id=one, region="us")) for one in names), now=at(2.5))
    for one in names:
        await see(pool, "--", first=2, service_id=one)
    assert [(await told(pool, one))[-1] for one in names] == [(PO, "dependency:portal"), (PO, "dependency:liveness")]

    rounds = 0
    while await followups.recheck(pool, now=at(4)):
        rounds += 1
        assert rounds < 10
    await follow(pool, 60)
    assert [(await told(pool, one))[-1] for one in names] == [(PO, None), (PO, None)]
