"""Deep reads beside the reference's: what was published then, other rules, response times over windows, contracts."""

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from fractions import Fraction

from services.aggregator import audits, series, slas
from shared.contracts.history import AuditQuery, DryRunQuery, Series, SeriesPoint, SeriesQuery
from shared.contracts.sla import SlaStanding
from shared.database import Connection, Pool
from tests.integration.aggregator.comparing import Compared, Known, known_of, near, near_percentile, told_states, unequal
from tests.integration.aggregator.playing import CONTRACT
from tests.reference import figures, states
from tests.reference.history import FAILED, Check, History, moment_of, ms_of
from tests.reference.making import HOUR_MS, Agreement, Story

DAY_MS = 86_400_000


async def other_reads(pool: Pool, story: Story, chance: random.Random, *, then: Sequence[Story]) -> list[str]:
    """Return what differs in the reads that are not asked of every service. `then`: what was known when work was done before."""
    wrong: list[str] = []
    names = list(story.services)
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        for name in chance.sample(names, len(names) // 2):
            one = known_of(name, story.services[name])
            wrong += unequal(name, [*await _series(conn, one, story, chance), *await _dry_run(conn, one, chance)])
        for before in then:
            for name in chance.sample(list(before.services), len(before.services) // 2):
                wrong += unequal(name, await _as_published(conn, name, before, story))
        if story.agreement is not None:
            wrong += await _contract(conn, story, story.agreement)
    return wrong


async def _as_published(conn: Connection, name: str, before: Story, story: Story) -> Compared:
    """Compare an audit as of a moment with what was known then."""
    history = before.services[name]
    one = known_of(name, history)
    as_of = moment_of(history.now)
    query = AuditQuery(service_id=name, starts_at=moment_of(one.begin), ends_at=moment_of(story.services[name].now), as_of=as_of)
    if one.begin >= history.now:
        return []
    told = await audits.audit(conn, query, now=moment_of(story.services[name].now))
    compared = [(f"as of {as_of}, {what}", found, expected) for what, found, expected in told_states(told, one)]
    asked = story.agreement
    if asked is not None and name in asked.services:
        told = await audits.audit(conn, query.model_copy(update={"contract_id": CONTRACT}), now=moment_of(story.services[name].now))
        time = _by(asked, one, one.begin, history.now)
        expected = (None if time.uptime is None else float(time.uptime), time.counted / 60_000)
        compared.append((f"as of {as_of}, by contract", (told.uptime_percentage, told.counted_minutes), expected))
    return compared


def _by(asked: Agreement, one: Known, start: int, end: int) -> figures.Time:
    return figures.counted_time(
        states.corrected(one.stages, one.history.believed(), start, end),
        one.history.maintenances,
        one.history.exclusions,
        partial=Fraction(asked.partial),
        maintenance=asked.maintenance,
        unknown=asked.unknown,
    )


async def _dry_run(conn: Connection, one: Known, chance: random.Random) -> Compared:
    """Compare other thresholds on the same checks; nobody is corrected."""
    failure, recovery, quorum = chance.randint(1, 4), chance.randint(1, 4), chance.choice(("any", "majority", "all", "2"))
    history = one.history
    query = DryRunQuery(
        service_id=one.name,
        starts_at=moment_of(one.begin),
        ends_at=moment_of(history.now),
        failure_threshold=failure,
        recovery_threshold=recovery,
        quorum=quorum,
    )
    told = await audits.dry_run(conn, query, now=moment_of(history.now))
    other = tuple(replace(asked, failure=failure, recovery=recovery, quorum=quorum) for asked in history.definitions)
    stages = states.timeline(replace(history, definitions=other))
    found = [
        states.Stage(ms_of(row.started_at), ms_of(row.ended_at or row.started_at), row.state.value, row.regions_down, row.regions_degraded)
        for row in told.would_be
    ]
    time = figures.counted_time(stages, history.maintenances, (), partial=Fraction(3, 10), maintenance=False, unknown=False)
    return [
        (f"dry run {failure} {recovery} {quorum}", found, stages),
        ("dry run's uptime", told.would_be_uptime_percentage, None if time.uptime is None else float(time.uptime)),
    ]


async def _series(conn: Connection, one: Known, story: Story, chance: random.Random) -> Compared:
    """Compare response times over a window by chance: of all regions or one, in minutes, hours or days."""
    history = one.history
    start = chance.randrange(one.begin - 24 * HOUR_MS, history.now)
    end = chance.randrange(start + 1, history.now + HOUR_MS)
    region = chance.choice((None, *sorted({check.region for check in history.checks})))
    points, hour_days = chance.choice((1, 7, 200)), chance.choice((1, 731, 731))
    query = SeriesQuery(service_id=one.name, starts_at=moment_of(start), ends_at=moment_of(end), region=region, points=points)
    kept = series.Kept(checks=1 if hour_days == 1 else 90, hours=hour_days)
    told = await series.read(conn, query, now=moment_of(history.now), zone=story.zone, kept=kept)
    checks = [check for check in figures.slots(history) if region in {None, check.region}]
    edges = [ms_of(point.starts_at) for point in told.points]
    edges.append(_ends(told, story, end) if hour_days == 1 else edges[-1] + told.resolution_s * 1000)
    label = f"series {start} {end} of {region}, {points}, {hour_days}"
    covered = edges[0] <= start and end <= edges[-1]
    compared: Compared = [(f"{label} covers", covered, True)]
    stretches = list(zip(told.points, edges, edges[1:], strict=False))
    for point, begins, ends in [*stretches, (told.whole, edges[0], edges[-1])]:
        compared += [(f"{label} at {point.starts_at}", _point_differs(point, [c for c in checks if begins <= c.slot < ends]), None)]
    return compared


def _ends(told: Series, story: Story, end: int) -> int:
    last = max(figures.local_day(end - 1, story.zone), figures.local_day(ms_of(told.points[-1].starts_at), story.zone))
    return figures.day_begins(last + timedelta(days=1), story.zone)


def _point_differs(point: SeriesPoint, checks: list[Check]) -> str | None:
    expected = figures.of_checks(checks, is_active=True)
    if (point.total, point.failed) != (expected.total, expected.failed):
        return f"{(point.total, point.failed)} checks for {(expected.total, expected.failed)}"
    times = expected.times_ms
    found = [near_percentile(value, times, percent) for value, percent in ((point.p50, 50), (point.p95, 95), (point.p99, 99))]
    found += [near(point.min, expected.least_ms, 0), near(point.max, expected.most_ms, 0), near(point.avg, expected.mean_ms, 0.001)]
    return "; ".join(one for one in found if one) or None


async def _contract(conn: Connection, story: Story, asked: Agreement) -> list[str]:
    """Compare how each service stands in the present window of its contract."""
    now = next(iter(story.services.values())).now
    told = await slas.standing(conn, CONTRACT, now=moment_of(now))
    start, end = (now - asked.days * DAY_MS, now) if asked.period == "rolling" else figures.period_around(now, asked.period, story.zone)
    wrong = unequal("contract", [("window", (told.window.starts_at, told.window.ends_at), (moment_of(start), moment_of(end)))])
    for found in told.standings:
        one = known_of(found.service_id, story.services[found.service_id])
        time = _by(asked, one, start, now)
        budget = figures.budget(time, Fraction(asked.target) / 100, still_to_come=end - now)
        wrong += unequal(found.service_id, [("standing", _plain(found), _expected(time, budget, one.history, start))])
    return wrong


def _plain(found: SlaStanding) -> dict[str, object]:
    return found.model_dump(exclude={"service_id", "burn_rates"})


def _expected(time: figures.Time, budget: figures.Budget, history: History, start: int) -> dict[str, object]:
    checks = [check for check in figures.slots(history) if check.slot >= start]
    good = sum(check.outcome != FAILED for check in checks)
    return {
        "uptime_percentage": None if time.uptime is None else float(time.uptime),
        "checks_percentage": float(figures.cut(Fraction(good, len(checks)), 4)) if checks else None,
        "counted_minutes": time.counted / 60_000,
        "downtime_minutes": float(time.downtime / 60_000),
        "maintenance_minutes": time.maintenance / 60_000,
        "excluded_minutes": time.excluded / 60_000,
        "unknown_minutes": time.unknown / 60_000,
        "inactive_minutes": time.inactive / 60_000,
        "budget_minutes": float(budget.allowed / 60_000),
        "budget_left_minutes": float(budget.left / 60_000),
        "budget_used_percentage": None if budget.used is None else float(budget.used),
        "met": budget.met,
    }
