"""What the aggregator does, each in one transaction: lock, decide, save, append to the outbox."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import isfinite
from uuid import uuid5
from zoneinfo import ZoneInfo

import prometheus_client
from prometheus_client import Histogram

from services.aggregator import circumstances, dependencies, partitions, records, rollups, silence, statuses, store, timelines
from services.aggregator.domain.calendar import LocalDays
from services.aggregator.domain.courses import disturbed_from
from services.aggregator.domain.day import Tally, tally
from services.aggregator.domain.muting import USUAL, Flapping
from services.aggregator.domain.verdict import Observation, Region, forgotten, observe, silenced, unmoved
from services.aggregator.store import Service
from shared import inbox
from shared.contracts.checks import CallBatchV1, CheckBatchV1, CheckResult
from shared.contracts.codes import ErrorType, Outcome
from shared.contracts.commands import Overview
from shared.contracts.envelope import Event
from shared.contracts.incidents import Incident
from shared.contracts.services import ServiceDefinition
from shared.database import Connection, Pool, transaction

CHECKS = prometheus_client.Counter(
    "sla_aggregator_checks_total", "Checks stored, by outcome; a repeated one is counted as repeated only", ["outcome"]
)
CALLS = prometheus_client.Counter("sla_aggregator_reported_calls_total", "Reported calls, stored or repeated", ["what"])
FOLD_SECONDS = Histogram("sla_aggregator_fold_seconds", "Time of one transaction that folds results")
AGE_SECONDS = Histogram(
    "sla_aggregator_check_age_seconds",
    "Age of the newest check of a transaction when it is folded",
    buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60, 600),
)
UTC_DAYS = LocalDays(ZoneInfo("UTC"))
AHEAD = timedelta(minutes=5)
"""A result of a slot farther ahead than this comes from a clock that is wrong: stored, but it tells nothing of the service."""
SILENT_AT_ONCE = 100
"""Most regions declared silent in one transaction, so that a great silence does not lock everything for long."""


@dataclass(frozen=True, slots=True)
class Folded:
    """What one fold did."""

    stored: int
    repeated: int
    changed: int


async def introduce_strangers(pool: Pool, batches: Sequence[Event[CheckBatchV1]]) -> None:
    """Make rows for services that results name before their definitions came. On its own, before any lock is held: inserts wait too."""
    named = {result.service_id for batch in batches for result in batch.data.results}
    known = await pool.fetch("select id from service where id = any($1::text[])", list(named))
    strangers = named - {row["id"] for row in known}
    if strangers:
        async with transaction(pool) as conn:
            await store.introduce(conn, sorted(strangers))


async def fold(
    conn: Connection, batches: Sequence[Event[CheckBatchV1]], *, now: datetime, flapping: Flapping = USUAL, days: LocalDays = UTC_DAYS
) -> Folded:
    """Add results to the raw rows, the days and the statuses. The services have rows: see `introduce_strangers`.

    Safe to run again and in any order: only what is not stored yet counts. Raises what the database raises; a deadlock or a
    serialization failure is transient, and the whole can be run again.
    """
    told = [(_credible(one, now=now), batch.data.checker) for batch in batches for one in batch.data.results]
    given = {one.id.int: (one, records.row(one, checker)) for one, checker in told}
    if not given:
        return Folded(0, 0, 0)
    with FOLD_SECONDS.time():
        services = await store.lock_services(conn, {result.service_id for result, _ in given.values()})
        stored = await records.stored_ids(conn, [result for result, _ in given.values()])
        new = [given[id_] for id_ in given if id_ not in stored]
        await records.insert_checks(conn, [row for _, row in new])
        fresh = [result for result, _ in new]
        known = [result for result in fresh if result.outcome is not Outcome.UNKNOWN]
        await _add_to_days(conn, [one for one in known if one.attempt == 0], days)  # a confirmation tells of the same slot once more
        await rollups.mark(conn, rollups.late_minutes(((one.service_id, one.scheduled_at) for one in fresh), now=now))
        changed = await _add_to_statuses(conn, services, known, now=now, flapping=flapping)
        if changed:
            await statuses.refresh_system(conn, now=now)
    _count(fresh, repeated=len(given) - len(fresh), now=now)
    return Folded(len(fresh), len(given) - len(fresh), changed)


def _credible(one: CheckResult, *, now: datetime) -> CheckResult:
    """Return a result, or one of unknown outcome in its place: were one from the future believed, all that come before it would be late.

    Under another id, so that the slot's own result still counts when its time has come.
    """
    if one.scheduled_at <= now + AHEAD:
        return one
    message = f"not counted: the checker's clock was more than {AHEAD // timedelta(minutes=1)} minutes ahead"
    changes = {"outcome": Outcome.UNKNOWN, "response_time_ms": None, "error_type": ErrorType.UNKNOWN, "error_message": message}
    return one.model_copy(update=changes | {"id": uuid5(one.id, "ahead")})


def _count(fresh: Sequence[CheckResult], *, repeated: int, now: datetime) -> None:
    for outcome, number in Counter(one.outcome.value for one in fresh).items():
        CHECKS.labels(outcome).inc(number)
    CHECKS.labels("repeated").inc(repeated)
    if fresh:
        AGE_SECONDS.observe(max(0.0, (now - max(one.checked_at for one in fresh)).total_seconds()))


async def _add_to_days(conn: Connection, known: Sequence[CheckResult], days: LocalDays) -> None:
    """Add results to the records of their days. Their services are locked, so nobody else changes those days meanwhile."""
    by_day: dict[records.ServiceDay, list[CheckResult]] = defaultdict(list)
    for one in known:
        by_day[one.service_id, days.of(one.scheduled_at)].append(one)
    if not by_day:
        return
    before = await records.load_days(conn, list(by_day))
    after = {day: before.get(day, Tally()).plus(_tally(results)) for day, results in by_day.items()}
    await records.save_days(conn, after)


def _tally(results: Sequence[CheckResult]) -> Tally:
    successful = [one.response_time_ms for one in results if one.outcome is not Outcome.FAILED]
    times = [one for one in successful if one is not None and isfinite(one) and one >= 0]
    return tally(successful=len(successful), failed=len(results) - len(successful), response_times_ms=times)


async def _add_to_statuses(
    conn: Connection, services: dict[str, Service], known: Sequence[CheckResult], *, now: datetime, flapping: Flapping
) -> int:
    """Let results of known outcome, confirmations too, move the statuses of their services; return how many changed."""
    seen: dict[tuple[str, str], list[Observation]] = defaultdict(list)
    for one in known:
        works, degraded = one.outcome is not Outcome.FAILED, one.outcome is Outcome.DEGRADED
        seen[one.service_id, one.region].append(Observation(store.slot_of(one.scheduled_at), works, degraded))
    if not seen:
        return 0
    regions = await store.regions(conn, {service_id for service_id, _ in seen})
    changed: list[tuple[str, Region]] = []
    touched: set[str] = set()
    disturbed: dict[str, int] = {}
    for (service_id, name), observations in seen.items():
        before, service = regions[service_id].get(name, Region(name)), services[service_id]
        calm = unmoved(before, observations, service.thresholds)
        slot = disturbed_from(before, observations, service.thresholds, calm=calm)
        if slot is not None and service.version > 0:  # its definition will mark the whole
            disturbed[service_id] = min(slot, disturbed.get(service_id, slot))
        after = observe(before, observations, service.thresholds)
        if after != before:
            regions[service_id][name] = after
            changed.append((service_id, after))
            if not calm:
                touched.add(service_id)
    await timelines.mark(conn, disturbed)
    if not changed:
        return 0
    await store.save_regions(conn, changed)
    await dependencies.ask_waiting(conn, touched)
    return await statuses.judge(conn, [services[one] for one in sorted(touched)], regions, now=now, flapping=flapping)


async def keep_calls(conn: Connection, batch: Event[CallBatchV1]) -> int:
    """Store calls of real traffic that somebody reported; return how many were new. They count neither for a status nor for a day.

    Safe to run again: what the same batch says is the same rows. Also of a service that was never heard of: its definition may follow.
    """
    stored = await records.insert_calls(conn, batch.id, batch.data)
    CALLS.labels("stored").inc(stored)
    CALLS.labels("repeated").inc(len(batch.data.calls) - stored)
    return stored


async def learn_service(
    conn: Connection,
    event_id: str,
    definition: ServiceDefinition,
    *,
    removed_at: datetime | None,
    now: datetime,
    flapping: Flapping = USUAL,
) -> None:
    """Take over what a definition says, and conclude the status anew. What is older than what is known changes nothing.

    The whole is brought up to date after the commit, by `followups.recheck_whole`.
    """
    if not await inbox.claim(conn, event_id):
        return
    await store.introduce(conn, [definition.id])
    before = (await store.lock_services(conn, [definition.id]))[definition.id]
    await timelines.learn(conn, definition, removed_at=removed_at, met=before.version == 0)
    removal = removed_at is not None and before.removed_at is None and definition.version == before.version
    if definition.version <= before.version and not removal:
        await store.asked_otherwise(conn, definition, now=now)
        return
    service = await store.learn(conn, definition, removed_at=removed_at)
    regions = await store.regions(conn, [service.id])
    if before.version > 0 and before.is_watched != service.is_watched:
        await _forget_outcomes(conn, service.id, regions[service.id])
    await statuses.judge(conn, [service], regions, now=now, flapping=flapping)
    await circumstances.ask_whole(conn)  # of thousands of definitions, each would count all services


async def _forget_outcomes(conn: Connection, service_id: str, regions: dict[str, Region]) -> None:
    """Begin from unknown: what was seen before a pause says nothing of what is after it."""
    regions.update({name: forgotten(region) for name, region in regions.items()})
    if regions:
        await store.save_regions(conn, [(service_id, region) for region in regions.values()])


async def declare_silent(pool: Pool, *, settled_since: datetime, now: datetime, flapping: Flapping = USUAL) -> int:
    """Say `nd` of services from which nothing comes any more; return how many regions fell silent.

    Looked at again under lock, so that of two replicas one says it, and results that came meanwhile count.
    """
    async with pool.acquire() as conn:
        suspects = await silence.fell_silent(conn, settled_since=settled_since, now=now, limit=SILENT_AT_ONCE)
    if not suspects:
        return 0
    async with transaction(pool) as conn:
        services = await store.lock_services(conn, {service_id for service_id, _ in suspects})
        silent = await silence.fell_silent(conn, settled_since=settled_since, now=now, among=list(services))
        if not silent:
            return 0
        regions = await store.regions(conn, {service_id for service_id, _ in silent})
        for service_id, name in silent:
            regions[service_id][name] = silenced(regions[service_id][name])
        since = sorted(((service_id, regions[service_id][name].newest_slot + 1) for service_id, name in silent), reverse=True)
        await timelines.mark(conn, dict(since))
        await store.save_regions(conn, [(service_id, regions[service_id][name]) for service_id, name in silent])
        await dependencies.ask_waiting(conn, regions)
        if await statuses.judge(conn, [services[one] for one in regions], regions, now=now, flapping=flapping):
            await statuses.refresh_system(conn, now=now)
    return len(silent)


async def count_incident(conn: Connection, event_id: str, incident: Incident) -> None:
    """Note how an incident is, by which the active ones are counted soon: not by events, so that repeats and disorder change nothing."""
    if not await inbox.claim(conn, event_id):
        return
    await store.see_incident(
        conn, incident.id, version=incident.version, is_open=incident.resolved_at is None, started_at=incident.started_at
    )
    await circumstances.ask_whole(conn)


async def make_partitions(conn: Connection, *, today: date, months_ahead: int = 2, days_ahead: int = 3) -> None:
    """Make the partitions of a day, where nobody reads or writes yet. Raises `asyncpg.LockNotAvailableError` where somebody does."""
    for parted, ahead in ((partitions.CHECKS, months_ahead), (partitions.HOURS, months_ahead), (partitions.MINUTES, days_ahead)):
        await partitions.make(conn, parted, today=today, ahead=ahead)


async def keep_house(conn: Connection, *, now: datetime) -> None:
    """Once a day: forget old message ids, and checkers that were isolated long ago."""
    await inbox.forget(conn, now=now)
    await silence.forget_checkers(conn, now=now)


async def overview(conn: Connection) -> Overview:
    """Return the present status of every service and of the whole, as of one moment. Needs a repeatable read."""
    return Overview(statuses=tuple(await store.statuses(conn)), system=await store.system(conn))
