"""What a number rests on: timelines as they are told, audits with a digest, and dry runs with other rules.

Every function reads as of one moment: it needs a repeatable read.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from operator import attrgetter
from uuid import UUID

from services.aggregator import facts, grounds, promises, replays, store, timelines
from services.aggregator.domain.accounting import FORMULA_VERSION, Accounting, account
from services.aggregator.domain.amending import Row, rows
from services.aggregator.domain.calendar import DAY_MS, Window
from services.aggregator.domain.canonical import digest
from services.aggregator.domain.courses import Rules, combined
from services.aggregator.domain.timeline import Interval, Span, State, corrected
from services.aggregator.facts import Checks, Facts
from services.aggregator.grounds import Ground, TooManyIntervals
from services.aggregator.promises import Promise
from services.aggregator.store import moment, slot_of
from shared.contracts.commands import FieldProblem, Problem
from shared.contracts.history import Audit, AuditQuery, DryRun, DryRunQuery, Period, Timeline
from shared.contracts.sla import StateInterval
from shared.database import Connection
from shared.rpc import Refused

LONGEST = timedelta(days=400)
LONGEST_DRY_RUN = timedelta(days=100)
MOST_INTERVALS = 10_000
"""More in one answer help nobody and would not go through the broker."""
MOST_IN_A_REPORT = 30_000
"""Of all its services together: 11 MB as they are told."""
MARGIN_MS = DAY_MS
"""A dry run begins so much earlier, from unknown, and looks so far ahead, so that what it says of its time does not depend on its edges."""
DEFAULT = Accounting()
UNDER_NO_DIGEST = ("digest", "settled", "computed_at")

SETTLED_AFTER = timedelta(seconds=10)
"""What was published is asked for so long after it at the earliest: what was being written at that moment is there by then."""


async def read_timeline(conn: Connection, period: Period, *, now: datetime) -> Timeline:
    """Return a service's states over a time up to now, corrections laid over, maintenance beside. Raises `Refused`: 404, 422."""
    window = await _window(conn, period.service_id, period.starts_at, period.ends_at, now=now, longest=LONGEST)
    ground = (await _grounds(conn, [period.service_id], window, most=MOST_INTERVALS))[period.service_id]
    known = ground.facts
    told = _maintained(_told(corrected(known.measured, known.corrections, window), ground.measured), known.maintenances)
    if period.ends_at >= now and told and told[-1].correction is None and told[-1].state is not State.INACTIVE:
        told[-1] = told[-1].model_copy(update={"ended_at": None})
    return Timeline(service_id=period.service_id, intervals=tuple(told))


async def audit(conn: Connection, query: AuditQuery, *, now: datetime) -> Audit:
    """Return everything that a service's uptime over a time follows from, up to now, with a digest.

    The same question on the same facts gives the same digest. `as_of`: everything as it was known then, whatever came to be known
    since; checks are not counted, as nobody knows which of them were there. Raises `Refused`: 404 for an unknown service or contract,
    422 for times and contracts that do not fit.
    """
    window = await _window(conn, query.service_id, query.starts_at, query.ends_at, now=now, longest=LONGEST, as_of=query.as_of)
    promise, of = await _promise(conn, query), [query.service_id]
    ground = (await _grounds(conn, of, window, most=MOST_INTERVALS, as_of=query.as_of))[query.service_id]
    checks = (await facts.checks(conn, of, window))[query.service_id] if query.as_of is None else None
    settled = query.as_of is not None or await facts.settled(conn, of, until=window.end, now=now)
    return _audited(query, ground, promise, checks, settled=settled, now=now)


async def of_contract(
    conn: Connection, promise: Promise, window: Window, checks: Mapping[str, Checks], *, now: datetime
) -> AsyncIterator[Audit]:
    """Give the audits of all services of a contract over a window that has begun, up to now: each what `audit` says of it.

    `checks`: those of the window. A few statements, however many services there are, and pauses between them for others. Raises `Refused`
    (422) for too much in one answer.
    """
    services, told = promise.contract.services, Window(window.start, min(window.end, slot_of(now)))
    grounds_, waiting = await _grounds(conn, services, told, most=MOST_IN_A_REPORT), await facts.unsettled(conn, services, now=now)
    for one in services:
        query = AuditQuery(service_id=one, starts_at=moment(window.start), ends_at=moment(window.end), contract_id=promise.contract.id)
        settled = one not in waiting or waiting[one].since >= told.end
        yield _audited(query, grounds_[one], promise, checks[one], settled=settled, now=now)
        await asyncio.sleep(0)


def _audited(  # what an audit is made of
    query: AuditQuery, ground: Ground, promise: Promise | None, checks: Checks | None, *, settled: bool, now: datetime
) -> Audit:
    known, window = ground.facts, ground.window
    excluded = [one for one in promise.exclusions if one.start < window.end and one.end > window.start] if promise else []
    accounting = promise.terms.accounting if promise else DEFAULT
    exclusion_ids = frozenset(one.id for one in excluded)
    total = account(known.pieces(excluded), accounting, maintenance=known.maintenance_ids, exclusions=exclusion_ids)
    found = Audit(
        service_id=query.service_id,
        starts_at=moment(window.start),
        ends_at=moment(window.end),
        as_of=query.as_of,
        contract=promise.contract if promise else None,
        partial_share=_share(accounting),
        count_maintenance=accounting.count_maintenance,
        count_unknown=accounting.count_unknown,
        intervals=tuple(_told(corrected(known.measured, known.corrections, window), ground.measured)),
        measured=tuple(_intervals(ground.measured)),
        corrections=tuple(ground.corrections),
        maintenances=tuple(ground.maintenances),
        exclusions=tuple(one for one in promise.contract.exclusions if str(one.id) in exclusion_ids) if promise else (),
        uptime_percentage=_plain(total.percentage),
        checks_percentage=None if checks is None else _plain(checks.percentage),
        total_checks=None if checks is None else checks.total,
        successful_checks=None if checks is None else checks.successful,
        failed_checks=None if checks is None else checks.failed,
        counted_minutes=total.counted / 60_000,
        downtime_minutes=float(total.downtime / 60_000),
        formula_version=FORMULA_VERSION,
        digest="",
        settled=settled,
        computed_at=now,
    )
    return found.model_copy(update={"digest": digest(found.model_dump(mode="json", exclude=set(UNDER_NO_DIGEST)))})


async def dry_run(conn: Connection, query: DryRunQuery, *, now: datetime) -> DryRun:
    """Return what other rules would have made of the checks of a time, beside what was measured; nothing is changed.

    Checks are read in pieces. What was is without corrections, so that both differ by the rules alone; both percentages are by the
    default accounting. Where the checks of a time are gone, it would be unknown. Raises `Refused`: 404, 422.
    """
    window = await _window(conn, query.service_id, query.starts_at, query.ends_at, now=now, longest=LONGEST_DRY_RUN)
    heard = await replays.silent_regions(conn, query.service_id)
    rules = _other(await timelines.rules(conn, query.service_id), query, heard)
    until = min(window.end + MARGIN_MS, slot_of(now))
    found = await replays.replay(
        conn,
        query.service_id,
        rules,
        {},
        after=max(0, window.start - MARGIN_MS),
        until=until,
        degraded_after_ms=query.degraded_after_ms,
        regions=query.regions or (),
    )
    silent = heard if until == slot_of(now) else {}
    for region, track in found.items():
        track.end(rules, until=until, silent=silent.get(region, False), surely=until < slot_of(now))
    regions = {region: track.stretches for region, track in found.items()}
    stages = await asyncio.to_thread(combined, regions, rules, start=max(window.start, rules[0].since), until=window.end)
    if len(stages) > MOST_INTERVALS:
        raise _not_valid(field="ends_at", reason=f"there would be more than {MOST_INTERVALS} intervals: ask for a shorter time")
    would_be = grounds.whole(rows(stages), window)
    ground = (await _grounds(conn, [query.service_id], window, most=MOST_INTERVALS))[query.service_id]
    known = replace(ground.facts, corrections=())
    return DryRun(
        service_id=query.service_id,
        would_be=tuple(_intervals(would_be)),
        was=tuple(_intervals(ground.measured)),
        would_be_uptime_percentage=_uptime(replace(known, measured=[Interval(one.start, one.end or 0, one.state) for one in would_be])),
        was_uptime_percentage=_uptime(known),
    )


def _other(rules: Sequence[Rules], query: DryRunQuery, heard: Collection[str]) -> list[Rules]:
    """Return the rules over time with those of the query in their places. `heard`: the regions that results came from."""
    strange = set(query.regions or ()) - set(heard).union(*(one.regions for one in rules))
    if strange:
        raise _not_valid(field="regions", reason=f"nothing was ever heard from {min(strange)[:100]!r}")
    quorum = query.quorum
    if quorum is not None and not (quorum in {"any", "majority", "all"} or (quorum.isascii() and quorum.isdigit() and int(quorum) >= 1)):
        raise _not_valid(field="quorum", reason="any, majority, all, or a number from 1")
    return [
        replace(
            one,
            thresholds=replace(
                one.thresholds,
                failure=query.failure_threshold or one.thresholds.failure,
                recovery=query.recovery_threshold or one.thresholds.recovery,
            ),
            quorum=quorum or one.quorum,
            regions=one.regions if query.regions is None else frozenset(query.regions),
        )
        for one in rules
    ]


def _uptime(known: Facts) -> float | None:
    return _plain(account(known.pieces(), DEFAULT, maintenance=known.maintenance_ids).percentage)


def _plain(percentage: Decimal | None) -> float | None:
    return None if percentage is None else float(percentage)


def _share(accounting: Accounting) -> str:
    share = accounting.partial_share
    return str(Decimal(share.numerator) / Decimal(share.denominator))


def _not_valid(*, field: str, reason: str) -> Refused:
    problem = FieldProblem(field=field, reason=reason)
    return Refused(Problem(title="Not valid", status=422, detail="Some fields cannot be used.", errors=(problem,)))


async def _window(
    conn: Connection,
    service_id: str,
    starts_at: datetime,
    ends_at: datetime,
    *,
    now: datetime,
    longest: timedelta,
    as_of: datetime | None = None,
) -> Window:
    """Return the asked time up to now, or up to `as_of`, in whole milliseconds. Raises `Refused`: 404, 422."""
    if await store.find_service(conn, service_id) is None:
        raise Refused(Problem(title="Not found", status=404, detail=f"There is no service {service_id!r}."))
    if ends_at - starts_at > longest:
        raise _not_valid(field="ends_at", reason=f"at most {longest.days} days after starts_at")
    if as_of is not None and as_of > now - SETTLED_AFTER:
        reason = "has not come yet" if as_of > now else f"must lie {SETTLED_AFTER.seconds} seconds back, so that all of it is written"
        raise _not_valid(field="as_of", reason=reason)
    window = Window(slot_of(starts_at), slot_of(min(ends_at, as_of or now)))
    if ends_at <= starts_at:
        raise _not_valid(field="ends_at", reason="must be after starts_at")
    if window.length <= 0:
        raise _not_valid(field="starts_at", reason="has not come yet")
    return window


async def _promise(conn: Connection, query: AuditQuery) -> Promise | None:
    """Return the contract that is asked by; `as_of`: as it was known then."""
    if query.contract_id is None:
        return None
    if query.as_of is None:
        found, when = await promises.find(conn, query.contract_id), "is"
    else:
        found, when = await promises.then(conn, query.contract_id, as_of=query.as_of), "was then"
    if found is None:
        raise Refused(Problem(title="Not found", status=404, detail=f"There {when} no contract {query.contract_id!r}."))
    if query.service_id not in found.contract.services:
        raise _not_valid(field="contract_id", reason="this contract does not name the service")
    return found


async def _grounds(
    conn: Connection, services: Sequence[str], window: Window, *, most: int, as_of: datetime | None = None
) -> dict[str, Ground]:
    """Return what is known of services over a time. Raises `Refused` (422) for too much in one answer."""
    try:
        return await grounds.load(conn, services, window, limit=most, as_of=as_of)
    except TooManyIntervals:
        raise _too_many(most) from None


def _too_many(most: int) -> Refused:
    return _not_valid(field="ends_at", reason=f"more than {most} intervals: ask for a shorter time, or for fewer services")


def _intervals(found: Iterable[Row]) -> list[StateInterval]:
    return [
        StateInterval(
            state=one.state,
            started_at=moment(one.start),
            ended_at=None if one.end is None else moment(one.end),
            regions_down=one.down,
            regions_degraded=one.degraded,
        )
        for one in found
    ]


def _told(whole: Iterable[Interval], measured: Sequence[Row]) -> list[StateInterval]:
    """Return the corrected time with the regions of what was measured, where no correction lies over it."""
    told: list[StateInterval] = []
    for one in whole:
        if one.correction is not None:
            own = [Row(one.start, one.end, one.state)]
        else:
            first = bisect_right(measured, one.start, key=lambda row: row.end or 0)
            last = bisect_left(measured, one.end, key=attrgetter("start"))
            own = [replace(row, start=max(row.start, one.start), end=min(row.end or 0, one.end)) for row in measured[first:last]]
        correction = None if one.correction is None else UUID(one.correction)
        told += [interval.model_copy(update={"correction": correction}) for interval in _intervals(own)]
    return told


def _maintained(told: Iterable[StateInterval], windows: Iterable[Span]) -> list[StateInterval]:
    """Return intervals that have ends cut where the window over them changes: of several windows the one that begins last."""
    laid = [(UUID(one.id), moment(one.start), moment(one.end)) for one in windows if one.end > one.start]
    cuts = sorted({edge for _, start, end in laid for edge in (start, end)})
    found: list[StateInterval] = []
    for one in told:
        last = one.ended_at or one.started_at
        edges = [one.started_at, *cuts[bisect_right(cuts, one.started_at) : bisect_left(cuts, last)], last]
        over = [next((id_ for id_, start, end in reversed(laid) if start <= at < end), None) for at in edges[:-1]]
        begins = [place for place in range(len(over)) if place == 0 or over[place] != over[place - 1]]
        for place, following in pairwise([*begins, len(over)]):
            change = {"started_at": edges[place], "ended_at": edges[following], "maintenance": over[place]}
            found.append(one.model_copy(update=change))
    return found
