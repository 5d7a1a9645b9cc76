"""Statuses with evidence, and what is said of them, on a real database."""

import asyncio
from datetime import date, timedelta
from uuid import uuid4
from zoneinfo import ZoneInfo

import pytest

from services.aggregator import days, followups, replays, usecases
from shared.contracts.codes import IncidentStatus, OverallStatus, Priority, Severity, Status
from shared.contracts.commands import Overview, UptimeQuery
from shared.contracts.incidents import Incident
from shared.contracts.status import ServiceStatus
from shared.database import Pool, transaction
from shared.rpc import Refused
from tests.integration.aggregator.story import (
    START,
    at,
    batch,
    definition,
    fold,
    learn,
    results,
    said,
    see,
    service_changes,
    system_changes,
)

UTC_ZONE = ZoneInfo("UTC")


async def declare_silent(pool: Pool, slot: float) -> int:
    """Look for silence at a slot, as an aggregator that has listened since the start."""
    return await usecases.declare_silent(pool, settled_since=START, now=at(slot))


def brief(changes: list[ServiceStatus]) -> list[tuple[Status, int]]:
    """Return each status and its version."""
    return [(one.status, one.version) for one in changes]


async def test_two_failures_make_an_outage_with_evidence_and_two_successes_end_it(pool: Pool) -> None:
    await learn(pool, definition())
    await see(pool, "++")
    await see(pool, "-", first=2)
    assert brief(await service_changes(pool)) == [(Status.NO_DATA, 1), (Status.OPERATIONAL, 2)], "one failure is not enough"

    await see(pool, "-", first=3)
    outage = (await service_changes(pool))[-1]
    await see(pool, "+", first=4)
    assert len(await service_changes(pool)) == 3, "one success is not enough"
    await see(pool, "+", first=5)
    recovery = (await service_changes(pool))[-1]

    assert (outage.status, outage.since, outage.detected_at, outage.version) == (Status.MAJOR_OUTAGE, at(2), at(3.5), 3)
    assert (outage.previous, outage.previous_version, outage.previous_since) == (Status.OPERATIONAL, 2, START)
    assert (outage.evidence.regions_down, outage.evidence.regions_up) == (("eu",), ())
    assert [(one.scheduled_at, one.status_code, one.error_message) for one in outage.evidence.checks] == [
        (at(2), 503, "503 Service Unavailable"),
        (at(3), 503, "503 Service Unavailable"),
    ]
    assert [one.id for one in outage.evidence.checks] == [one.id for one in results("--", first=2)]
    assert (recovery.status, recovery.since, recovery.previous, recovery.previous_since) == (
        Status.OPERATIONAL,
        at(4),
        Status.MAJOR_OUTAGE,
        at(2),
    )
    intervals = await pool.fetch("select status, started_at, ended_at from status_interval order by version")
    assert [tuple(row.values()) for row in intervals] == [
        ("nd", START, START),
        ("o", START, at(2)),
        ("mo", at(2), at(4)),
        ("o", at(4), None),
    ]


async def test_results_of_a_service_that_is_not_known_yet_count_and_are_judged_when_it_is(pool: Pool) -> None:
    folded = await see(pool, "+--")
    assert (folded.stored, folded.changed, await said(pool)) == (3, 0, [])

    await learn(pool, definition(), now=at(4))

    assert brief(await service_changes(pool)) == [(Status.MAJOR_OUTAGE, 1)]
    assert await pool.fetchval("select total_calls from api_call_logs") == 3


async def test_ids_of_events_are_distinct_and_versions_have_no_gap(pool: Pool) -> None:
    services = [f"service-{number}" for number in range(5)]
    for service in services:
        await learn(pool, definition(service))
    pattern = "++--++--++--++"

    async def replica(step: int) -> None:
        for slot in range(0, len(pattern), step):
            found = [one for service in services for one in results(pattern[slot : slot + step], first=slot, service_id=service)]
            await fold(pool, batch(found), now=at(20))

    await asyncio.gather(replica(1), replica(2), replica(1))

    events = await said(pool)
    assert len({one.id for one in events}) == len(events)
    for service in services:
        changes = await service_changes(pool, service)
        assert [one.version for one in changes] == list(range(1, len(changes) + 1))
        assert changes[-1].status is Status.OPERATIONAL
    present = (await _overview(pool)).system
    whole = await system_changes(pool)
    assert [one.version for one in whole] == list(range(1, len(whole) + 1))
    assert whole[-1].model_dump(mode="json") == present.model_dump(mode="json")


async def _overview(pool: Pool) -> Overview:
    await followups.recheck_whole(pool, now=at(50))
    async with transaction(pool) as conn:
        return await usecases.overview(conn)


async def test_a_mass_outage_is_written_and_said_in_as_many_statements_as_a_small_one(pool: Pool) -> None:
    """Its evidence is read in one, too. Seen red with intervals and events written one by one, and with evidence read by service."""

    async def statements(services: list[str]) -> int:
        for one in services:
            await learn(pool, definition(one))
            await see(pool, "+", service_id=one)
        sent: list[str] = []
        failing = batch(result for one in services for result in results("--", first=1, service_id=one))
        async with transaction(pool) as conn:
            with conn.query_logger(lambda record: sent.append(record.query)):
                assert (await usecases.fold(conn, [failing], now=at(3))).changed == len(services)
        return len(sent)

    assert await statements(["a", "b"]) == await statements([f"s{number}" for number in range(12)])


async def test_silence_is_said_once_by_two_replicas_and_ended_by_results(pool: Pool) -> None:
    """Seen red without the second look under lock."""
    await learn(pool, definition())
    await see(pool, "++")
    # 2.5 intervals and a timeout of 1 s after slot 1 is slot 4
    assert await declare_silent(pool, 3.9) == 0

    found = await asyncio.gather(*(declare_silent(pool, 4.2) for _ in range(4)))

    assert sorted(found) == [0, 0, 0, 1]
    silence = (await service_changes(pool))[-1]
    assert (silence.status, silence.since, silence.version) == (Status.NO_DATA, at(2), 3)
    assert silence.evidence.regions_silent == ("eu",)
    assert await declare_silent(pool, 100) == 0, "it is said once"
    await see(pool, "+", first=200)
    assert brief(await service_changes(pool))[-1] == (Status.OPERATIONAL, 4)


async def test_silence_is_measured_from_when_this_process_began_to_listen(pool: Pool) -> None:
    await learn(pool, definition())
    await see(pool, "++")

    assert await usecases.declare_silent(pool, settled_since=at(1000), now=at(1002)) == 0
    assert await usecases.declare_silent(pool, settled_since=at(1000), now=at(1003.1)) == 1


async def test_one_silent_region_leaves_the_judgement_to_the_others(pool: Pool) -> None:
    await learn(pool, definition())
    await fold(pool, batch(results("++++++")), batch(results("--", region="us")), now=at(6))
    assert brief(await service_changes(pool))[-1] == (Status.PARTIAL_OUTAGE, 2)

    assert await declare_silent(pool, 6.5) == 1

    change = (await service_changes(pool))[-1]
    assert (change.status, change.evidence.regions_silent, change.evidence.regions_up) == (Status.OPERATIONAL, ("us",), ("eu",))


async def test_a_region_that_falls_silent_is_told_though_the_status_stays_and_told_again_when_it_is_back(pool: Pool) -> None:
    """Seen red with a verdict that is the same whichever regions are silent."""
    await learn(pool, definition())
    await see(pool, "++++++")
    await see(pool, "++", region="us")
    assert await declare_silent(pool, 6.5) == 1

    await see(pool, "++", first=6, region="us")

    told = [(one.status, one.since, one.evidence.regions_silent, one.muted_by) for one in await service_changes(pool)]
    assert told[-3:] == [
        (Status.OPERATIONAL, START, (), None),
        (Status.OPERATIONAL, at(2), ("us",), None),
        (Status.OPERATIONAL, at(6), (), None),
    ]


async def test_a_removed_service_is_empty_its_history_stays_and_its_id_may_come_back(pool: Pool) -> None:
    await learn(pool, definition())
    await see(pool, "+--")
    await learn(pool, definition(version=2), removed_at=at(4), now=at(4))
    await see(pool, "-", first=4)  # a straggler

    change = (await service_changes(pool))[-1]
    assert (change.status, change.since, change.previous) == (Status.EMPTY, at(4), Status.MAJOR_OUTAGE)
    assert (await _overview(pool)).system.total_services == 0
    async with transaction(pool) as conn:
        uptime = await days.read_uptime(
            conn, UptimeQuery(service_id="id-recognition", days=1, until=START.date()), now=at(9), zone=UTC_ZONE
        )
    assert uptime.days[0].total_checks == 4

    await learn(pool, definition(version=3), now=at(10))
    await see(pool, "+", first=11)
    assert brief(await service_changes(pool))[-2:] == [(Status.NO_DATA, 4), (Status.OPERATIONAL, 5)]


async def test_a_paused_service_begins_anew_and_older_definitions_change_nothing(pool: Pool) -> None:
    await learn(pool, definition())
    await see(pool, "--")
    await learn(pool, definition(version=3, is_active=False), now=at(3))
    await learn(pool, definition(version=2), now=at(3))
    assert brief(await service_changes(pool))[-1] == (Status.EMPTY, 3)

    await learn(pool, definition(version=4), now=at(100))
    await see(pool, "+", first=101)

    assert brief(await service_changes(pool))[-2:] == [(Status.NO_DATA, 4), (Status.OPERATIONAL, 5)]


async def test_the_whole_follows_services_and_incidents(pool: Pool) -> None:
    for service in ("one", "two", "three"):
        await learn(pool, definition(service))
        await see(pool, "+", service_id=service)
    await see(pool, "--", first=1, service_id="one")
    assert (await system_changes(pool))[-1].overall_status is OverallStatus.DEGRADED
    await see(pool, "--", first=1, service_id="two")

    whole = (await system_changes(pool))[-1]

    assert (whole.overall_status, whole.operational_services, whole.total_services) == (OverallStatus.OUTAGE, 1, 3)
    assert whole.message == "Of 3 services: 2 down."


async def test_the_whole_is_counted_once_for_many_definitions_by_whichever_replica(pool: Pool) -> None:
    """Seen red with the whole counted for each definition, and with notes that are not deleted."""
    for number in range(20):
        await learn(pool, definition(f"service-{number}"))
    assert await system_changes(pool) == [], "not in the transactions of the definitions"

    found = await asyncio.gather(*(followups.recheck_whole(pool, now=at(1)) for _ in range(3)))

    assert (sum(found), await followups.recheck_whole(pool, now=at(2))) == (20, 0)
    assert [(one.total_services, one.version) for one in await system_changes(pool)] == [(20, 1)]


async def test_what_is_not_known_yet_is_not_called_operational(pool: Pool) -> None:
    """Seen red with a whole that counts services without data as nothing."""
    await learn(pool, definition())
    unseen = (await _overview(pool)).system
    assert (unseen.overall_status, unseen.message) == (OverallStatus.DEGRADED, "Of 1 services: 1 without data.")

    await see(pool, "+")

    assert (await _overview(pool)).system.overall_status is OverallStatus.OPERATIONAL


async def test_active_incidents_are_counted_by_what_each_is(pool: Pool) -> None:
    """Repeated and reordered events change nothing. Seen red without the guard by version."""
    one = Incident(
        id=uuid4(),
        title="Login fails",
        status=IncidentStatus.INVESTIGATING,
        severity=Severity.HIGH,
        priority=Priority.P2,
        affected_services=(),
        started_at=START,
        created_by="kim",
        version=1,
    )
    ended = one.model_copy(update={"version": 2, "status": IncidentStatus.RESOLVED, "resolved_at": at(9), "duration_minutes": 0})
    other = one.model_copy(update={"id": uuid4(), "started_at": at(5)})

    async def hear(incident: Incident) -> int:
        async with transaction(pool) as conn:
            await usecases.count_incident(conn, str(uuid4()), incident)
        return (await _overview(pool)).system.active_incidents

    assert [await hear(incident) for incident in (one, one, other, ended, one, ended)] == [1, 1, 2, 1, 1, 1]
    system = (await _overview(pool)).system
    assert system.last_incident_at == at(5)
    assert [change.active_incidents for change in await system_changes(pool)] == [1, 2, 1]


async def test_uptime_has_no_gaps_and_says_what_is_not_known(pool: Pool) -> None:
    yesterday = START - timedelta(days=1)
    await learn(pool, definition(created_at=START - timedelta(days=3)))
    await fold(pool, batch(results("++--", start=yesterday)), now=yesterday + timedelta(seconds=10))
    await fold(pool, batch(results("+++")), now=at(3))
    await replays.work(pool, clock=lambda: at(5))

    async with transaction(pool) as conn:
        uptime = await days.read_uptime(
            conn, UptimeQuery(service_id="id-recognition", days=6, until=date(2026, 3, 11)), now=at(5), zone=UTC_ZONE
        )

    assert [(one.date, one.status) for one in uptime.days] == [
        ("2026-03-06", Status.EMPTY),
        ("2026-03-07", Status.NO_DATA),
        ("2026-03-08", Status.NO_DATA),
        ("2026-03-09", Status.MAJOR_OUTAGE),
        ("2026-03-10", Status.OPERATIONAL),
        ("2026-03-11", Status.EMPTY),
    ]
    assert uptime.uptime_percentage == 71.42  # 5 of 7
    # down from slot 2 of yesterday until the first that was missed, by the timeline, though the status said so until today
    assert [one.total_downtime_minutes for one in uptime.days[3:5]] == [0.07, 0.0]


async def test_uptime_of_a_service_that_was_never_heard_of_is_refused(pool: Pool) -> None:
    async with transaction(pool) as conn:
        with pytest.raises(Refused) as refusal:
            await days.read_uptime(conn, UptimeQuery(service_id="nobody", days=1, until=START.date()), now=START, zone=UTC_ZONE)
    assert refusal.value.problem.status == 404
