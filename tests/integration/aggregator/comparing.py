"""Every number of the aggregator beside the reference's."""

from datetime import timedelta
from fractions import Fraction
from itertools import product
from typing import Any

from services.aggregator import audits, days, facts, usecases
from services.aggregator.domain.accounting import Accounting, account
from services.aggregator.domain.timeline import Span
from shared.contracts.codes import Status
from shared.contracts.commands import UptimeQuery
from shared.contracts.history import AuditQuery
from shared.database import Pool
from tests.reference import figures, states
from tests.reference.history import FAILED, History, Stay, moment_of, ms_of
from tests.reference.making import HOUR_MS, Story


async def differences(pool: Pool, story: Story) -> list[str]:
    """Return every number that is another than the reference's, in words."""
    wrong: list[str] = []
    for name, history in story.services.items():
        for what, found, expected in [
            *await _timeline(pool, name, history),
            *await _live(pool, name, history),
            *await _days(pool, name, history, story),
            *await _uptime(pool, name, history, story),
        ]:
            if found != expected:
                wrong.append(f"{name} {what}: {found}, by the reference {expected}")
    return wrong


Compared = list[tuple[str, Any, Any]]


async def _timeline(pool: Pool, name: str, history: History) -> Compared:
    begin = history.definitions[0].since
    query = AuditQuery(service_id=name, starts_at=moment_of(begin), ends_at=moment_of(history.now))
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        told = await audits.audit(conn, query, now=moment_of(history.now))
        again = await audits.audit(conn, query, now=moment_of(history.now + 1))
    found = [_stage(one, begin) for one in told.measured]
    expected = [_shown(one, begin) for one in states.timeline(history)]
    believed = states.corrected(states.timeline(history), history.corrections, begin, history.now)
    joined = states.corrected(
        [states.Stage(ms_of(one.started_at), ms_of(one.ended_at or one.started_at), one.state.value) for one in told.intervals],
        (),
        begin,
        history.now,
    )
    checks = figures.slots(history)
    good = sum(check.outcome != FAILED for check in checks)
    time = figures.uptime(history, begin, history.now)
    share = figures.cut(Fraction(good, len(checks)), 4) if checks else None
    return [
        ("timeline", [one for one in found if one not in expected], [one for one in expected if one not in found]),
        ("corrected timeline", joined, believed),
        ("digest", told.digest, again.digest),
        ("audit by checks", told.checks_percentage, None if share is None else float(share)),
        ("audit by time", told.uptime_percentage, None if time.uptime is None else float(time.uptime)),
        ("audit's counts", (told.total_checks, told.successful_checks, told.failed_checks), (len(checks), good, len(checks) - good)),
        ("audit's minutes", (told.counted_minutes, told.downtime_minutes), (time.counted / 60_000, float(time.downtime / 60_000))),
    ]


def _stage(one: Any, begin: int) -> str:  # noqa: ANN401  # an interval of an audit
    return _shown(states.Stage(ms_of(one.started_at), ms_of(one.ended_at), one.state.value, one.regions_down, one.regions_degraded), begin)


def _shown(one: states.Stage, begin: int) -> str:
    down, degraded = ",".join(one.down), ",".join(one.degraded)
    return f"{(one.start - begin) / HOUR_MS:.7f} {(one.end - begin) / HOUR_MS:.7f} {one.state} down: {down}; degraded: {degraded}"


async def _live(pool: Pool, name: str, history: History) -> Compared:
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        overview = await usecases.overview(conn)
    said = next(one for one in overview.statuses if one.service_id == name)
    expected = states.live(history)
    compared: Compared = [("status", said.status.value, states.CODES[expected.state])]
    if said.status in {Status.PARTIAL_OUTAGE, Status.MAJOR_OUTAGE}:
        evidence = said.evidence
        compared.append(("regions", (evidence.regions_down, evidence.regions_degraded), (expected.down, expected.degraded)))
        compared.append(("degraded", said.degraded, expected.state == "degraded"))
    return compared


async def _days(pool: Pool, name: str, history: History, story: Story) -> Compared:
    last = figures.local_day(history.now, story.zone)
    first = figures.local_day(history.definitions[0].since, story.zone) - timedelta(days=1)
    query = UptimeQuery(service_id=name, days=(last - first).days + 1, until=last)
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        read = await days.read_uptime(conn, query, now=moment_of(history.now), zone=story.zone)
    compared: Compared = []
    stages = states.corrected(states.timeline(history), history.corrections, history.definitions[0].since, history.now)
    for step, found in enumerate(read.days):
        which = first + timedelta(days=step)
        expected = figures.day(history, which, story.zone)
        counts = (found.date, found.status.value, found.total_checks, found.successful_checks, found.failed_checks)
        compared.append(
            (f"day {which}", counts, (which.isoformat(), expected.status, expected.total, expected.successful, expected.failed))
        )
        share = None if expected.uptime is None else float(expected.uptime)
        compared.append((f"day {which} uptime", found.uptime_percentage, share))
        compared.append((f"day {which} mean", _near(found.avg_response_time, expected.mean_ms, 0.001), None))
        for percent in (50, 95, 99):
            value = getattr(found, f"p{percent}_response_time")
            exact = figures.percentile(expected.times_ms, percent / 100)
            compared.append((f"day {which} p{percent}", _near(value, exact, 0.01 * (exact or 0) + 0.0005), None))
        if which < last:
            start, end = figures.day_begins(which, story.zone), figures.day_begins(which + timedelta(days=1), story.zone)
            down = sum(max(0, min(one.end, end) - max(one.start, start)) for one in stages if one.state == "down") / 60_000
            compared.append((f"day {which} downtime", _near(found.total_downtime_minutes, down, 0.006), None))
    return compared


def _near(found: float | None, exact: float | None, margin: float) -> str | None:
    """Return nothing where both are as near as they must be, otherwise both."""
    if found is None or exact is None:
        return None if found is exact else f"{found} for {exact}"
    return None if abs(found - exact) <= margin else f"{found} for {exact}"


async def _uptime(pool: Pool, name: str, history: History, story: Story) -> Compared:
    """By each accounting, over the whole and over a day in the middle, with an exclusion."""
    begin = history.definitions[0].since
    middle = figures.local_day(begin, story.zone) + timedelta(days=1)
    day = (figures.day_begins(middle, story.zone), figures.day_begins(middle + timedelta(days=1), story.zone))
    windows = [window for window in ((begin, history.now), day) if window[1] <= history.now]  # what has not come yet is not known
    excluded = (Stay(begin + 20 * HOUR_MS, begin + 31 * HOUR_MS),)
    compared: Compared = []
    for (start, end), partial, maintenance, unknown in product(windows, ("0", "3/10", "1/2", "1"), (False, True), (False, True)):
        async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
            known = (await facts.load(conn, {name: start}, until=end))[name]
        found = account(
            known.pieces([Span(one.start, one.end, "x") for one in excluded]),
            Accounting(Fraction(partial), count_maintenance=maintenance, count_unknown=unknown),
            maintenance=known.maintenance_ids,
            exclusions=frozenset({"x"}),
        )
        asked = History(history.definitions, history.checks, history.now, history.corrections, history.maintenances, excluded)
        expected = figures.uptime(asked, start, end, partial=Fraction(partial), maintenance=maintenance, unknown=unknown)
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
