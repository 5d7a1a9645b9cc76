"""Quorum, evidence, maintenance, dependencies and flapping, on a real database: what is said, when, and of whom nobody is alerted."""

import asyncio
from datetime import timedelta
from itertools import pairwise
from uuid import UUID, uuid4

import pytest

from services.aggregator import followups, usecases
from services.aggregator.__main__ import follow_changes
from services.aggregator.domain.muting import Flapping
from shared.contracts.codes import MaintenanceStatus, Status
from shared.contracts.maintenance import Maintenance, MaintenanceEndedV1, MaintenanceScheduledV1, MaintenanceStartedV1
from shared.contracts.registry import encode, make_event
from shared.contracts.status import ServiceStatus
from shared.database import Pool, transaction
from shared.messaging import Outgoing
from shared.topology import EVENTS
from tests.integration.aggregator.story import START, at, batch, definition, fold, learn, results, see, service_changes, system_changes
from tests.integration.aggregator.test_messages import aggregator
from tests.servers import Vhost
from tests.waiting import until

O, PO, MO, ND, E = Status.OPERATIONAL, Status.PARTIAL_OUTAGE, Status.MAJOR_OUTAGE, Status.NO_DATA, Status.EMPTY  # noqa: E741  # the codes as everybody knows them
SCHEDULED, IN_PROGRESS, COMPLETED, CANCELLED = MaintenanceStatus
WINDOW = UUID(int=7)


def window(*services: str, status: MaintenanceStatus = SCHEDULED, version: int = 1, id_: UUID = WINDOW, start: float = 0) -> Maintenance:
    """Return a maintenance window as incidents tells it."""
    return Maintenance(
        id=id_,
        title="New disks",
        services=services,
        status=status,
        starts_at=at(start),
        ends_at=at(start + 100),
        created_by="kim",
        created_at=START,
        version=version,
    )


async def announce(pool: Pool, one: Maintenance, *, now: float = 50) -> None:
    """Tell the aggregator of a window, in an event of its own, and let it follow."""
    async with transaction(pool) as conn:
        await followups.hear_maintenance(conn, str(uuid4()), one)
    await follow(pool, now)


async def follow(pool: Pool, slot: float, **more: Flapping) -> int:
    """Judge again what is to be."""
    return await followups.recheck(pool, now=at(slot), **more)


async def said_last(pool: Pool, service_id: str = "id-recognition") -> ServiceStatus:
    """Return the newest version of a service's status."""
    return (await service_changes(pool, service_id))[-1]


def muting(changes: list[ServiceStatus]) -> list[tuple[Status, str | None]]:
    """Return each status and why nobody is alerted of it."""
    return [(one.status, one.muted_by) for one in changes]


async def test_regions_fall_and_rise_one_after_the_other_each_said_with_its_beginning(pool: Pool) -> None:
    """Seen red with the beginning of a verdict taken from the first region that fell."""
    await learn(pool, definition())
    patterns = {"ap": "++++++++", "eu": "+----+++", "us": "+++---++"}
    for slot in range(8):
        await fold(pool, *(batch(results(one[slot], first=slot, region=name)) for name, one in patterns.items()), now=at(slot + 0.5))

    changes = await service_changes(pool)

    assert [(one.status, one.evidence.regions_down, one.since) for one in changes] == [
        (ND, (), START),
        (O, (), START),
        (PO, ("eu",), at(1)),
        (MO, ("eu", "us"), at(3)),  # two of three are the majority
        (PO, ("us",), at(5)),
        (O, (), at(6)),
    ]
    assert [(one.evidence.first_failed_at, one.evidence.confirmed_at) for one in changes[2:]] == [
        (at(1), at(2)),
        (at(1), at(4)),
        (at(3), at(4)),
        (None, None),
    ]
    assert changes[2].evidence.reason == "Down from eu, up from ap, us."
    assert changes[3].evidence.reason == "Down from eu, us, which are as many regions as make an outage (majority); up from ap."
    assert [one.version for one in changes] == [1, 2, 3, 4, 5, 6]
    kept = await pool.fetch("select first_failed_at, confirmed_at from status_interval order by version offset 2")
    assert [tuple(row.values()) for row in kept] == [(one.evidence.first_failed_at, one.evidence.confirmed_at) for one in changes[2:]]


@pytest.mark.parametrize(("quorum", "status"), [("any", MO), ("majority", PO), ("all", PO), ("1", MO), ("2", PO)])
async def test_each_service_has_its_own_quorum_and_may_change_it(pool: Pool, quorum: str, status: Status) -> None:
    """Seen red with the quorum not learnt."""
    await learn(pool, definition(quorum=quorum))
    await fold(pool, batch(results("+++", region="eu")), batch(results("+--", region="us")), now=at(3))

    assert (await said_last(pool)).status is status

    await learn(pool, definition(version=2, quorum="any"), now=at(4))
    assert (await said_last(pool)).status is MO


async def test_degraded_is_a_level_of_its_own_under_partial(pool: Pool) -> None:
    """Seen red with the set of regions left out of what makes a verdict another."""
    await learn(pool, definition())
    await fold(pool, batch(results("+++++")), batch(results("+~~--", region="us")), now=at(3))
    await see(pool, "+~~", service_id="id-recognition", region="ap", first=5)

    changes = await service_changes(pool)

    assert [(one.status, one.degraded, one.evidence.regions_down, one.evidence.regions_degraded) for one in changes[-2:]] == [
        (PO, False, ("us",), ()),
        (PO, False, ("us",), ("ap",)),
    ]
    await learn(pool, definition("slow"))
    await see(pool, "+~~", service_id="slow")
    slow = await said_last(pool, "slow")
    assert (slow.status, slow.degraded, slow.evidence.regions_degraded) == (PO, True, ("eu",))
    assert (slow.evidence.first_failed_at, slow.evidence.confirmed_at) == (at(1), at(2))


async def test_what_an_isolated_checker_says_is_silence(pool: Pool) -> None:
    """Its results are unknown outcomes: stored, and no sign of life. Seen red with unknown outcomes moving `newest_at`."""
    await learn(pool, definition())
    await see(pool, "++????????")
    assert await usecases.declare_silent(pool, settled_since=START, now=at(3.9)) == 0

    # 2.5 intervals and the timeout of 1 s after slot 1
    assert await usecases.declare_silent(pool, settled_since=START, now=at(4.1)) == 1

    change = await said_last(pool)
    assert (change.status, change.since, change.evidence.regions_silent) == (ND, at(2), ("eu",))


async def test_a_window_mutes_alerts_and_hides_no_fact(pool: Pool) -> None:
    """Seen red with windows that are only scheduled taken for begun, and with the version of a window not looked at."""
    await learn(pool, definition())
    await announce(pool, window("id-recognition", "never-heard-of"))
    await see(pool, "++")
    assert (await said_last(pool)).maintenance is None, "it is only announced"

    await announce(pool, window("id-recognition", "never-heard-of", status=IN_PROGRESS, version=2))
    begun = await said_last(pool)
    await see(pool, "--", first=2)
    outage = await said_last(pool)
    await see(pool, "++", first=4)
    await see(pool, "--", first=6)
    await announce(pool, window("id-recognition", status=COMPLETED, version=3))
    await announce(pool, window("id-recognition", status=IN_PROGRESS, version=2))  # late

    muted = f"maintenance:{WINDOW}"
    assert (begun.status, begun.since, begun.version, begun.maintenance, begun.muted_by) == (O, START, 3, WINDOW, muted)
    assert (begun.previous, begun.previous_version, begun.evidence.regions_up) == (O, 2, ("eu",))
    assert (outage.status, outage.since, outage.maintenance, outage.muted_by) == (MO, at(2), WINDOW, muted)
    assert muting(await service_changes(pool))[3:] == [(MO, muted), (O, muted), (MO, muted), (MO, None)]
    after = await said_last(pool)
    assert (after.since, after.maintenance, after.evidence.first_failed_at, after.previous_muted_by) == (at(6), None, at(6), muted)
    assert [one.id for one in after.evidence.checks] == [one.id for one in results("--", first=6)]
    assert [one.message for one in (await system_changes(pool))[-1:]] == ["Of 1 services: 1 down."]


async def test_of_two_windows_the_one_that_goes_on_mutes(pool: Pool) -> None:
    other = UUID(int=8)
    await learn(pool, definition())
    await see(pool, "--")
    await announce(pool, window("id-recognition", status=IN_PROGRESS))
    await announce(pool, window("id-recognition", status=IN_PROGRESS, id_=other, start=5))
    assert (await said_last(pool)).maintenance == WINDOW, "the one that began first"

    await announce(pool, window("id-recognition", status=COMPLETED, version=2))
    assert (await said_last(pool)).maintenance == other

    await announce(pool, window(status=IN_PROGRESS, version=2, id_=other, start=5))  # the service was taken out of it
    assert muting(await service_changes(pool))[-1] == (MO, None)


async def test_a_service_that_is_defined_while_its_window_runs_is_in_it(pool: Pool) -> None:
    await announce(pool, window("id-recognition", status=IN_PROGRESS))
    await learn(pool, definition())

    assert (await said_last(pool)).muted_by == f"maintenance:{WINDOW}"

    await learn(pool, definition(version=2, is_active=False), now=at(2))
    assert muting([await said_last(pool)]) == [(E, None)]


async def chain(pool: Pool) -> None:
    """Make page stand on api, and api on database, all well."""
    await learn(pool, definition("database"))
    await learn(pool, definition("api", depends_on=("cache", "database")))
    await learn(pool, definition("page", depends_on=("api",)))
    await fold(pool, *(batch(results("++", service_id=one)) for one in ("database", "api", "page")), now=at(2))


async def test_in_a_chain_each_link_mutes_the_next(pool: Pool) -> None:
    """Seen red with the dependents not asked for when a status turns, and with dependencies that are muted taken for well."""
    await chain(pool)
    for service in ("database", "api", "page"):
        await see(pool, "--", first=2, service_id=service)
    assert muting([await said_last(pool, one) for one in ("database", "api", "page")]) == [
        (MO, None),
        (MO, "dependency:database"),
        (MO, "dependency:api"),
    ]

    await see(pool, "++", first=4, service_id="database")
    await follow(pool, 11)  # api had its fair chance
    api, page = await said_last(pool, "api"), await said_last(pool, "page")
    assert muting([api, page]) == [(MO, None), (MO, "dependency:api")], "api is down by itself, and page because of it"
    assert (api.since, api.version, api.previous_muted_by) == (at(2), 4, "dependency:database")
    assert api.evidence == (await service_changes(pool, "api"))[-2].evidence

    await see(pool, "++", first=4, service_id="page")
    await see(pool, "++", first=6, service_id="api")
    await follow(pool, 20)
    assert muting((await service_changes(pool, "page"))[-2:]) == [(MO, "dependency:api"), (O, None)]
    assert await follow(pool, 21) == 0, "nothing is left to be judged again"


async def test_who_falls_in_one_go_with_what_it_stands_on_is_muted_from_the_start(pool: Pool) -> None:
    """Folded in one transaction, as when they are checked at the same moment. Seen red with only the written statuses looked at."""
    await chain(pool)
    await fold(pool, *(batch(results("--", first=2, service_id=one)) for one in ("page", "api", "database")), now=at(4))
    assert muting([await said_last(pool, one) for one in ("database", "api", "page")]) == [
        (MO, None),
        (MO, "dependency:database"),
        (MO, "dependency:api"),
    ]

    await fold(pool, *(batch(results("++", first=4, service_id=one)) for one in ("page", "api", "database")), now=at(6))
    await follow(pool, 7)
    assert [len(await service_changes(pool, one)) for one in ("database", "api", "page")] == [4, 4, 4]


async def test_what_was_told_before_its_dependency_fell_is_muted_then(pool: Pool) -> None:
    await chain(pool)
    await see(pool, "--", first=2, service_id="api")
    await see(pool, "--", first=2, service_id="database")

    assert await follow(pool, 5) == 2  # api, and page for what api did

    assert muting((await service_changes(pool, "api"))[-2:]) == [(MO, None), (MO, "dependency:database")]
    assert muting(await service_changes(pool, "page")) == [(ND, None), (O, None)], "of what is well nothing is said"


async def test_a_crash_between_the_change_and_what_follows_forgets_nothing(pool: Pool) -> None:
    """Seen red with the row of `recheck` deleted before, in a transaction of its own."""
    await chain(pool)
    for service in ("database", "api"):
        await see(pool, "--", first=2, service_id=service)
    await see(pool, "++", first=4, service_id="database")
    await pool.execute("create function fail() returns trigger as $$ begin raise 'crash'; end $$ language plpgsql")
    await pool.execute("create trigger crash before insert on outbox execute function fail()")
    with pytest.raises(Exception, match="crash"):
        await follow(pool, 11)
    await pool.execute("drop trigger crash on outbox")

    found = await asyncio.gather(*(follow(pool, 11) for _ in range(4)))

    assert sum(found) > 0
    assert muting((await service_changes(pool, "api"))[-2:]) == [(MO, "dependency:database"), (MO, None)]


async def folds(pool: Pool, services: list[str]) -> None:
    """Let services go up and down, always in this order."""
    for slot in range(0, 14, 2):
        for one in services:
            await fold(pool, batch(results("--" if slot % 4 else "++", first=slot, service_id=one)), now=at(slot + 2))


async def unrest(pool: Pool, services: list[str]) -> None:
    """Begin and end windows, and follow, as long as that takes."""
    for version in range(1, 9):
        await announce(pool, window(*services, status=IN_PROGRESS if version % 2 else COMPLETED, version=version))
        await follow(pool, version)


async def test_services_that_stand_on_each_other_change_at_once_and_nobody_waits_for_ever(pool: Pool) -> None:
    """Folds in both orders, followers, and windows, all at once: locks are taken by id only, so nothing deadlocks.

    Seen red with the dependents' rows locked by the fold that turned the status.
    """
    services = [f"s{number}" for number in range(6)]
    for place, one in enumerate(services):
        await learn(pool, definition(one, depends_on=(services[place - 1],)))
    await asyncio.wait_for(asyncio.gather(folds(pool, services), folds(pool, services[::-1]), *(unrest(pool, services) for _ in "ab")), 60)
    while await follow(pool, 60):
        pass

    for one in services:
        changes = await service_changes(pool, one)
        assert [change.version for change in changes] == list(range(1, len(changes) + 1))
        assert muting(changes)[-1] == (O, None)
    whole = await system_changes(pool)
    assert [one.version for one in whole] == list(range(1, len(whole) + 1))
    assert whole[-1].operational_services == 6
    facts = [(one.overall_status, one.operational_services, one.total_services, one.message) for one in whole]
    assert all(one != other for one, other in pairwise(facts)), "one event for each change"


async def test_switching_off_and_on_is_no_restlessness(pool: Pool) -> None:
    """Seen red with pauses among the changes that are counted."""
    for version in range(1, 20):
        await learn(pool, definition(version=version, is_active=version % 2 == 1), now=at(version))
    await see(pool, "++", first=20)
    found = await service_changes(pool)
    assert [one.status for one in found[-3:]] == [E, ND, O]
    assert not any(one.flapping for one in found)


async def test_flapping_is_said_once_and_over_when_it_calmed_down(pool: Pool) -> None:
    """Seen red with changes counted by version, with the age of changes not looked at, and without the look at who calmed down."""
    limits = Flapping(changes=4, window=timedelta(milliseconds=2000 * 40))
    await learn(pool, definition())
    await see(pool, "+")
    await announce(pool, window("id-recognition", status=IN_PROGRESS), now=1)  # versions that are no changes
    await announce(pool, window("id-recognition", status=COMPLETED, version=2), now=1)
    for slot in range(1, 15, 2):
        sign = "--" if slot % 4 == 1 else "++"
        async with transaction(pool) as conn:
            await usecases.fold(conn, [batch(results(sign, first=slot))], now=at(slot + 2), flapping=limits)

    changes = (await service_changes(pool))[4:]
    assert [(one.status, one.flapping, one.muted_by) for one in changes] == [
        (MO, False, None),  # at 1, after the first `o`: the second change
        (O, False, None),
        (MO, False, None),
        (O, True, None),  # the fifth: announced
        (MO, True, "flapping"),
        (O, True, "flapping"),
        (MO, True, "flapping"),
    ]
    assert await follow(pool, 48, flapping=limits) == 0, "three changes are left: more than a half"

    assert await follow(pool, 50, flapping=limits) == 1

    calm = await said_last(pool)
    assert (calm.status, calm.flapping, calm.muted_by, calm.since) == (MO, False, None, at(13))
    assert await follow(pool, 51, flapping=limits) == 0


async def test_windows_are_heard_and_followed_at_once_by_two_replicas(pool: Pool, vhost: Vhost) -> None:
    """From event to event, over the broker. Seen red without the handlers of maintenance, and without anybody who follows."""
    async with aggregator(pool, vhost) as wiring, aggregator(pool, vhost) as other:
        followers = [asyncio.create_task(follow_changes(one)) for one in (wiring, other)]
        for version, payload in enumerate((MaintenanceScheduledV1, MaintenanceStartedV1, MaintenanceEndedV1), start=1):
            status = (SCHEDULED, IN_PROGRESS, COMPLETED)[version - 1]
            if version == 1:
                for name in ("id-recognition", "api"):
                    await learn(pool, definition(name))
                    await see(pool, "+--", service_id=name)
            heard = payload(maintenance=window("id-recognition", "api", status=status, version=version))
            event = make_event(heard, source="/incidents", subject=str(WINDOW), version=version, at=START, correlation_id="w")
            for publisher in (wiring.consumer.publisher, other.consumer.publisher):
                await publisher.publish(Outgoing(EVENTS, event.type, encode(event), str(event.id), event.correlationid))

            async def followed(expected: UUID | None = WINDOW if status is IN_PROGRESS else None) -> bool:
                rows = await pool.fetch("select maintenance from status_interval where ended_at is null")
                versions = await pool.fetch("select version from maintenance_window")
                return {row["maintenance"] for row in rows} == {expected} and [row["version"] for row in versions] == [version]  # noqa: B023  # asked before the next round

            await until(followed, within_s=10, what=f"the window is {status}")
        for one in followers:
            one.cancel()
        await asyncio.gather(*followers, return_exceptions=True)

    statuses = await pool.fetch("select version, muted_by from status_interval where service_id = 'api' order by version")
    assert [tuple(row.values()) for row in statuses] == [(1, None), (2, None), (3, f"maintenance:{WINDOW}"), (4, None)]
