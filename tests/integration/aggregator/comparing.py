"""Every number of the aggregator beside the reference's."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction
from itertools import product
from typing import Any

from services.aggregator import audits, days, facts, usecases
from services.aggregator.domain.accounting import Accounting, account
from services.aggregator.domain.timeline import Span
from shared.contracts.codes import Status
from shared.contracts.commands import UptimeQuery
from shared.contracts.history import Audit, AuditQuery
from shared.contracts.status import ServiceStatus
from shared.database import Connection, Pool
from tests.reference import figures, states
from tests.reference.history import FAILED, History, Stay, moment_of, ms_of
from tests.reference.making import HOUR_MS, Story

Compared = list[tuple[str, Any, Any]]
"""What it is, what the aggregator says, and what the reference does."""


@dataclass(frozen=True)
class Known:
    """One service, and what the reference makes of it."""

    name: str
    history: History
    stages: list[states.Stage]
    believed: list[states.Stage]

    @property
    def begin(self) -> int:
        """When the service began."""
        return self.history.definitions[0].since


def known_of(name: str, history: History) -> Known:
    """Ask the reference once for what most of the rest follows from."""
    stages = states.timeline(history)
    return Known(name, history, stages, states.corrected(stages, history.believed(), history.definitions[0].since, history.now))


async def differences(pool: Pool, story: Story, *, among: Collection[str] | None = None) -> list[str]:
    """Return every number that is another than the reference's, in words. `story`: what has arrived by now."""
    wrong: list[str] = []
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        statuses = {one.service_id: one for one in (await usecases.overview(conn)).statuses}
        for name in story.services if among is None else among:
            one = known_of(name, story.services[name])
            compared = [
                *await _timeline(conn, one),
                *_live(one, statuses[name], story.overtaken(name)),
                *await _days(conn, one, story),
                *await _uptime(conn, one, story),
            ]
            wrong += unequal(name, compared)
    return wrong


def unequal(name: str, compared: Compared) -> list[str]:
    """Return what differs, in words."""
    return [f"{name} {what}: {found}, by the reference {expected}" for what, found, expected in compared if found != expected]


async def _timeline(conn: Connection, one: Known) -> Compared:
    history = one.history
    query = AuditQuery(service_id=one.name, starts_at=moment_of(one.begin), ends_at=moment_of(history.now))
    told = await audits.audit(conn, query, now=moment_of(history.now))
    again = await audits.audit(conn, query, now=moment_of(history.now + 1))
    checks = figures.slots(history)
    good = sum(check.outcome != FAILED for check in checks)
    share = figures.cut(Fraction(good, len(checks)), 4) if checks else None
    return [
        *told_states(told, one),
        ("digest", told.digest, again.digest),
        ("audit by checks", told.checks_percentage, None if share is None else float(share)),
        ("audit's counts", (told.total_checks, told.successful_checks, told.failed_checks), (len(checks), good, len(checks) - good)),
    ]


def told_states(told: Audit, one: Known) -> Compared:
    """Compare the states of an audit by the default accounting, and the time that follows from them."""
    begin, history = one.begin, one.history
    found = [_stage(row, begin) for row in told.measured]
    expected = [_shown(stage, begin) for stage in one.stages]
    intervals = [states.Stage(ms_of(row.started_at), ms_of(row.ended_at or row.started_at), row.state.value) for row in told.intervals]
    joined = states.corrected(intervals, (), begin, history.now)
    time = figures.counted_time(one.believed, history.maintenances, (), partial=Fraction(3, 10), maintenance=False, unknown=False)
    return [
        ("timeline", [row for row in found if row not in expected], [row for row in expected if row not in found]),
        ("corrected timeline", joined, one.believed),
        ("audit by time", told.uptime_percentage, None if time.uptime is None else float(time.uptime)),
        ("audit's minutes", (told.counted_minutes, told.downtime_minutes), (time.counted / 60_000, float(time.downtime / 60_000))),
    ]


def _stage(one: Any, begin: int) -> str:  # noqa: ANN401  # an interval of an audit
    return _shown(states.Stage(ms_of(one.started_at), ms_of(one.ended_at), one.state.value, one.regions_down, one.regions_degraded), begin)


def _shown(one: states.Stage, begin: int) -> str:
    down, degraded = ",".join(one.down), ",".join(one.degraded)
    return f"{(one.start - begin) / HOUR_MS:.7f} {(one.end - begin) / HOUR_MS:.7f} {one.state} down: {down}; degraded: {degraded}"


def _live(one: Known, said: ServiceStatus, overtaken: Collection[tuple[str, int]]) -> Compared:
    """Compare the present. Where it turns on results that were overtaken, nothing is promised."""
    expected = _presents(one.history)
    if overtaken:
        rest = tuple(check for check in one.history.checks if (check.region, check.slot) not in overtaken)
        expected |= _presents(replace(one.history, checks=rest))
    told = [_told(said.status.value, said.evidence.regions_down, said.evidence.regions_degraded)]
    asked = [_told(states.CODES[state], down, degraded) for state, down, degraded in sorted(expected)]
    return [("status", told, asked if told[0] not in asked else told)]


def _told(status: str, down: tuple[str, ...], degraded: tuple[str, ...]) -> tuple[object, ...]:
    return status, *((down, degraded) if status in {Status.PARTIAL_OUTAGE, Status.MAJOR_OUTAGE} else ())


def _presents(history: History) -> set[tuple[str, tuple[str, ...], tuple[str, ...]]]:
    """Return how it may be now: the timeline's end, or what the newest outcomes make by the definition of now, which was another then."""
    last = history.definition_at(history.now)
    now = [replace(asked, failure=last.failure, recovery=last.recovery) for asked in history.definitions]
    found = [states.live(replace(history, definitions=tuple(some))) for some in (history.definitions, now)]
    return {(stage.state, stage.down, stage.degraded) for stage in found}


async def _days(conn: Connection, one: Known, story: Story) -> Compared:
    history = one.history
    last = figures.local_day(history.now, story.zone)
    first = figures.local_day(one.begin, story.zone) - timedelta(days=1)
    query = UptimeQuery(service_id=one.name, days=(last - first).days + 1, until=last)
    read = await days.read_uptime(conn, query, now=moment_of(history.now), zone=story.zone)
    compared: Compared = []
    for step, found in enumerate(read.days):
        which = first + timedelta(days=step)
        expected = figures.day(history, which, story.zone)
        counts = (found.date, found.status.value, found.total_checks, found.successful_checks, found.failed_checks)
        compared.append(
            (f"day {which}", counts, (which.isoformat(), expected.status, expected.total, expected.successful, expected.failed))
        )
        share = None if expected.uptime is None else float(expected.uptime)
        compared.append((f"day {which} uptime", found.uptime_percentage, share))
        compared.append((f"day {which} mean", near(found.avg_response_time, expected.mean_ms, 0.001), None))
        for percent in (50, 95, 99):
            value = getattr(found, f"p{percent}_response_time")
            compared.append((f"day {which} p{percent}", near_percentile(value, expected.times_ms, percent), None))
        start, end = figures.day_begins(which, story.zone), figures.day_begins(which + timedelta(days=1), story.zone)
        down = sum(max(0, min(stage.end, end) - max(stage.start, start)) for stage in one.believed if stage.state == "down") / 60_000
        compared.append((f"day {which} downtime", near(found.total_downtime_minutes or 0, down, 0.006), None))
    return compared


def near(found: float | None, exact: float | None, margin: float) -> str | None:
    """Return nothing where both are as near as they must be, otherwise both."""
    if found is None or exact is None:
        return None if found is exact else f"{found} for {exact}"
    return None if abs(found - exact) <= margin else f"{found} for {exact}"


def near_percentile(found: float | None, times: tuple[float, ...], percent: int) -> str | None:
    """Return nothing where a percentile is within 1 % of the exact one."""
    exact = figures.percentile(times, percent / 100)
    return near(found, exact, 0.01 * (exact or 0) + 0.001)


async def _uptime(conn: Connection, one: Known, story: Story) -> Compared:
    """By each accounting, over the whole and over a day in the middle, with an exclusion."""
    history, begin = one.history, one.begin
    middle = figures.local_day(begin, story.zone) + timedelta(days=1)
    day = (figures.day_begins(middle, story.zone), figures.day_begins(middle + timedelta(days=1), story.zone))
    excluded = (Stay(begin + 20 * HOUR_MS, begin + 31 * HOUR_MS),)
    compared: Compared = []
    for start, end in (window for window in ((begin, history.now), day) if window[1] <= history.now):  # what has not come is not known
        known = (await facts.load(conn, {one.name: start}, until=end))[one.name]
        pieces = known.pieces([Span(stay.start, stay.end, "x") for stay in excluded])
        believed = states.corrected(one.stages, history.believed(), start, end)
        for partial, maintenance, unknown in product(("0", "3/10", "1/2", "1"), (False, True), (False, True)):
            chosen = Accounting(Fraction(partial), count_maintenance=maintenance, count_unknown=unknown)
            found = account(pieces, chosen, maintenance=known.maintenance_ids, exclusions=frozenset({"x"}))
            expected = figures.counted_time(
                believed, history.maintenances, excluded, partial=Fraction(partial), maintenance=maintenance, unknown=unknown
            )
            label = f"uptime {partial} maintenance {maintenance} unknown {unknown} of {(end - start) / HOUR_MS:.1f} h"
            compared.append((label, found.percentage, expected.uptime))
            compared.append(
                (
                    f"{label}, time",
                    (found.counted, found.downtime, found.maintenance, found.excluded, found.unknown, found.inactive),
                    (expected.counted, expected.downtime, expected.maintenance, expected.excluded, expected.unknown, expected.inactive),
                )
            )
    return compared
