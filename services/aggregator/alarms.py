"""What is said of SLA contracts, and when: looked for each minute, said once. docs/sla.md has the rules.

A contract is judged with its row locked, and what was found is remembered with what is said of it, in one transaction. So neither
replicas nor restarts say a thing twice; what was said stays said, whatever comes to be known later.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram

from services.aggregator import facts, promises, standings
from services.aggregator.domain.accounting import Judgement
from services.aggregator.domain.alarming import ALWAYS, BREACHED, BURN, EXHAUSTED, Finding, Key, Step, steps
from services.aggregator.domain.calendar import Window
from services.aggregator.domain.contracts import ended, present
from services.aggregator.facts import Checks, Unsettled
from services.aggregator.promises import Promise
from services.aggregator.standings import Burn, Sample, View
from services.aggregator.store import moment, slot_of
from shared import outbox
from shared.contracts.registry import make_event
from shared.contracts.sla import BurnRate, SlaBreachedV1, SlaBudgetExhaustedV1, SlaBurnRateV1
from shared.database import Connection, Pool, transaction
from shared.telemetry import correlation_id

if TYPE_CHECKING:
    from services.aggregator.domain.timeline import Piece
    from shared.contracts.envelope import Event, Payload

SOURCE = "/aggregator"
SERVICES_AT_ONCE = 100
"""Services whose facts are in memory at once; a contract over more is looked at alone."""
PATIENCE = timedelta(minutes=5)
"""A window is judged so long after its end, and not while results of it wait to be told of: what is said then is never taken back."""

SECONDS = Histogram("sla_aggregator_slas_seconds", "Time of one look at all SLA contracts", buckets=(0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 300))
LOOKED_AT = Gauge(
    "sla_aggregator_slas_looked_at_seconds", "When all SLA contracts were looked at last, by whichever replica this is, UNIX time"
)
SAID = Counter("sla_aggregator_slas_said_total", "What was said of SLA contracts, by event type", ["type"])

SQL_ONE_AT_A_TIME = "select pg_try_advisory_xact_lock(hashtext('sla-monitor slas'), hashtext(current_schema()))"
# A contract that was removed is looked at until every alert of its has ended.
SQL_TO_LOOK_AT = """
select c.id, cardinality(c.services) as services from sla_contract c
 where c.removed_at is null
    or exists (select from sla_state s where s.contract_id = c.id and s.holds and s.what like 'burn:%')
 order by c.id"""
SQL_STATES = """
select contract_id, service_id, what, window_start, holds from sla_state
 where contract_id = any($1::text[]) and (window_start = 'epoch' or window_start >= $2)"""
SQL_REMEMBER = """
insert into sla_state (contract_id, service_id, what, window_start, holds, said_at)
select contract_id, service_id, what, window_start, holds, $6
  from unnest($1::text[], $2::text[], $3::text[], $4::timestamptz[], $5::boolean[])
       as given (contract_id, service_id, what, window_start, holds)
    on conflict (contract_id, service_id, what, window_start) do update set holds = excluded.holds, said_at = excluded.said_at"""
SQL_NEXT_VERSIONS = """
insert into sla_said (contract_id, version) values ($1, $2)
    on conflict (contract_id) do update set version = sla_said.version + excluded.version
returning version"""

Service = tuple[str, str]
"""A contract and one of its services, by id."""
States = Mapping[Service, Mapping[Key, bool]]
"""What was found last."""


@dataclass(frozen=True, slots=True)
class Case:
    """One service under one contract: how it stands now, and how the windows stood that ended and are to be judged, by their start."""

    promise: Promise
    service_id: str
    window: Window
    present: Judgement
    burns: Sequence[Burn]
    ended: Mapping[int, tuple[Window, Judgement]]
    is_sure: bool
    """Nothing of the contract waits to be computed or to be declared silent, so that the present may be spoken of."""


@dataclass(frozen=True, slots=True)
class News:
    """What was found of a service and is news. `case` None: the contract no longer speaks of it."""

    promise: Promise
    service_id: str
    step: Step
    case: Case | None = None
    rates: tuple[BurnRate, ...] = ()


async def look(pool: Pool, *, now: datetime, stored_until: datetime | None) -> int | None:
    """Look at every contract once, and return how much was said; None where another replica is looking.

    `stored_until`: what was sent before is stored; None: nobody knows, and no window that ended is judged. Work is bounded: a transaction
    for some contracts at a time.
    """
    async with pool.acquire() as conn:
        found = [(row["id"], row["services"]) for row in await conn.fetch(SQL_TO_LOOK_AT)]
    judge_until = None if stored_until is None else min(stored_until, now) - PATIENCE
    said = 0
    with SECONDS.time():
        for ids in _portions(found):
            async with transaction(pool) as conn:
                if not await conn.fetchval(SQL_ONE_AT_A_TIME):
                    return None
                said += await look_at(conn, await promises.some(conn, ids, lock=True), now=now, judge_until=judge_until)
    LOOKED_AT.set(now.timestamp())
    return said


def _portions(found: Iterable[tuple[str, int]]) -> Iterator[list[str]]:
    portion: list[str] = []
    services = 0
    for contract_id, number in found:
        if portion and services + number > SERVICES_AT_ONCE:
            yield portion
            portion, services = [], 0
        portion.append(contract_id)
        services += number
    if portion:
        yield portion


async def look_at(
    conn: Connection, contracts: Sequence[Promise], *, now: datetime, judge_until: datetime | None, hurry: bool = False
) -> int:
    """Look at some contracts, locked by the caller; say what is news, remember it, and return how much was said.

    `judge_until`: months and quarters that ended up to then are judged; None: none is now. `hurry`: even where results of them still
    wait to be told of, because the terms are about to change.
    """
    unsettled = await facts.unsettled(conn, {service_id for one in contracts for service_id in one.contract.services}, now=now)
    to_judge = _to_judge(contracts, judge_until, {} if hurry else unsettled)
    cases = await _cases(conn, contracts, to_judge, unsettled, at=slot_of(now))
    states = await _states(conn, contracts, to_judge, at=slot_of(now))
    news = [*await _news(conn, cases, states, at=slot_of(now)), *_endings(contracts, states, at=slot_of(now))]
    said = await _say(conn, [one for one in news if one.step.told], now=now)
    await _remember(conn, news, now=now)
    judged = {contract_id: windows[-1].end for contract_id, windows in to_judge.items() if windows}
    await promises.judged(conn, {contract_id: moment(end) for contract_id, end in judged.items()})
    return said


def _to_judge(contracts: Sequence[Promise], judge_until: datetime | None, unsettled: Mapping[str, Unsettled]) -> dict[str, list[Window]]:
    """Return the windows of each contract that ended, were not judged yet and are settled, oldest first."""
    if judge_until is None:
        return {}
    until = slot_of(judge_until)
    due: dict[str, list[Window]] = {}
    for one in contracts:
        over = [] if one.removed_at else ended(one.terms, after=slot_of(one.judged_until), until=until)
        oldest = min((unsettled[service_id].since for service_id in one.contract.services if service_id in unsettled), default=until)
        due[one.contract.id] = [window for window in over if window.end <= oldest]
    return due


async def _cases(
    conn: Connection, contracts: Iterable[Promise], to_judge: Mapping[str, list[Window]], unsettled: Mapping[str, Unsettled], *, at: int
) -> list[Case]:
    """Return every service of the contracts as each of them sees it: all facts are read at once, and reckoned with pauses for others."""
    present_ones = [one for one in contracts if not one.removed_at]
    since: dict[str, int] = {}
    for one in present_ones:
        begin = min([standings.begins(one, at), *(window.start for window in to_judge.get(one.contract.id, ()))])
        since |= {service_id: min(begin, since.get(service_id, begin)) for service_id in one.contract.services}
    known = await facts.load(conn, since, until=at)
    plain: dict[str, list[Piece]] = {}
    cases = []
    for one in present_ones:
        is_sure = not any(unsettled[service_id].unsure for service_id in one.contract.services if service_id in unsettled)
        for service_id in one.contract.services:
            if service_id not in plain:
                plain[service_id] = known[service_id].pieces()
            pieces = known[service_id].pieces(one.exclusions) if one.contract.exclusions else plain[service_id]
            seen = View(one, service_id, pieces, known[service_id].maintenance_ids)
            cases.append(_case(seen, to_judge.get(one.contract.id, ()), at=at, is_sure=is_sure))
            await asyncio.sleep(0)
    return cases


def _case(seen: View, to_judge: Iterable[Window], *, at: int, is_sure: bool) -> Case:
    window = present(seen.promise.terms, at)
    past = {one.start: (one, standings.judged(seen, one, now=at)) for one in to_judge}
    present_one = standings.judged(seen, window, now=at)
    return Case(seen.promise, seen.service_id, window, present_one, standings.burns(seen, now=at), past, is_sure)


async def _states(conn: Connection, contracts: Sequence[Promise], to_judge: Mapping[str, list[Window]], *, at: int) -> States:
    """Return what was found last, of the windows that matter now."""
    starts = [present(one.terms, at).start for one in contracts] + [window.start for windows in to_judge.values() for window in windows]
    since = moment(min(starts, default=at))
    found: dict[Service, dict[Key, bool]] = defaultdict(dict)
    for row in await conn.fetch(SQL_STATES, [one.contract.id for one in contracts], since):
        found[row["contract_id"], row["service_id"]][row["what"], slot_of(row["window_start"])] = row["holds"]
    return found


async def _news(conn: Connection, cases: Sequence[Case], states: States, *, at: int) -> list[News]:
    wanted: list[Sample] = []
    for one in cases:
        wanted += standings.suspects(one.service_id, one.burns, now=at)
        await asyncio.sleep(0)
    counted = await standings.samples(conn, wanted, now=at)
    news: list[News] = []
    for one in cases:
        rates = standings.rates(one.service_id, one.burns, counted, now=at)
        before = states.get((one.promise.contract.id, one.service_id), {})
        news += [News(one.promise, one.service_id, step, one, rates) for step in steps(before, _findings(one, rates))]
        await asyncio.sleep(0)
    return news


def _findings(case: Case, rates: Iterable[BurnRate]) -> Iterator[Finding]:
    for window, judgement in case.ended.values():
        yield Finding(BREACHED, window.start, judgement.met is False, once=True, verdict=True)
    if not case.is_sure:
        return
    yield from (Finding(f"{BURN}{one.rule}", ALWAYS, one.alerting) for one in rates)
    now = case.present
    if standings.is_rolling(case.promise):
        yield Finding(EXHAUSTED, ALWAYS, now.budget.exhausted)
        yield Finding(BREACHED, ALWAYS, now.met is False)
    else:
        yield Finding(EXHAUSTED, case.window.start, now.budget.exhausted, once=True)


def _endings(contracts: Iterable[Promise], states: States, *, at: int) -> Iterator[News]:
    """End the alerts of services that a contract no longer speaks of."""
    by_id = {one.contract.id: one for one in contracts}
    for (contract_id, service_id), before in states.items():
        promise = by_id[contract_id]
        if promise.removed_at or service_id not in promise.contract.services:
            found = [Finding(what, window, holds=False) for what, window in before if what.startswith(BURN)]
            rates = standings.no_rates(promise, now=at)
            yield from (News(promise, service_id, step, None, rates) for step in steps(before, found))


async def _say(conn: Connection, news: Sequence[News], *, now: datetime) -> int:
    """Say news, each as the next version of its contract."""
    by_contract: dict[str, list[News]] = defaultdict(list)
    for one in news:
        by_contract[one.promise.contract.id].append(one)
    checks = await _checks(conn, news, at=slot_of(now))
    events: list[Event[Payload]] = []
    for contract_id, told in sorted(by_contract.items()):
        last = await conn.fetchval(SQL_NEXT_VERSIONS, contract_id, len(told))
        for version, one in enumerate(told, start=last - len(told) + 1):
            payload = _payload(one, checks, at=slot_of(now))
            events.append(make_event(payload, source=SOURCE, subject=contract_id, version=version, at=now, correlation_id=correlation_id()))
            SAID.labels(payload.TYPE).inc()
    await outbox.append_many(conn, events)
    return len(events)


def _judgement(one: News, case: Case) -> tuple[Window, Judgement]:
    """Return what an event about a budget or a promise speaks of."""
    return case.ended.get(one.step.finding.window, (case.window, case.present)) if one.step.finding.verdict else (case.window, case.present)


async def _checks(conn: Connection, news: Iterable[News], *, at: int) -> dict[tuple[str, Window], Checks]:
    """Return the counts of checks that events tell of: one statement for each window."""
    wanted: dict[Window, set[str]] = defaultdict(set)
    for one in news:
        if one.case and not one.step.finding.what.startswith(BURN):
            wanted[_judgement(one, one.case)[0]].add(one.service_id)
    found: dict[tuple[str, Window], Checks] = {}
    for window, services in wanted.items():
        counts = await facts.checks(conn, sorted(services), Window(window.start, min(window.end, at)))
        found |= {(service_id, window): count for service_id, count in counts.items()}
    return found


def _payload(one: News, checks: Mapping[tuple[str, Window], Checks], *, at: int) -> SlaBurnRateV1 | SlaBudgetExhaustedV1 | SlaBreachedV1:
    what, contract = one.step.finding.what, one.promise.contract
    if one.case is None or what.startswith(BURN):
        rate = next(rate for rate in one.rates if what == f"{BURN}{rate.rule}")
        window = one.case.window if one.case else present(one.promise.terms, at)
        return SlaBurnRateV1(contract=contract, service_id=one.service_id, window=standings.window_told(window), burn=rate)
    window, judgement = _judgement(one, one.case)
    rates = () if one.step.finding.verdict else one.rates
    standing = standings.standing(one.service_id, judgement, checks[one.service_id, window], rates)
    event = SlaBudgetExhaustedV1 if what == EXHAUSTED else SlaBreachedV1
    return event(contract=contract, window=standings.window_told(window), standing=standing)


async def _remember(conn: Connection, news: Sequence[News], *, now: datetime) -> None:
    found = [one.step.finding for one in news]
    await conn.execute(
        SQL_REMEMBER,
        [one.promise.contract.id for one in news],
        [one.service_id for one in news],
        [one.what for one in found],
        [moment(one.window) for one in found],
        [one.holds for one in found],
        now,
    )
