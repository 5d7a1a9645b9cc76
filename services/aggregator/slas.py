"""SLA contracts: kept, excluded from, read and reported. What is said of them by themselves is in alarms.py."""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from services.aggregator import alarms, audits, facts, promises, standings
from services.aggregator.domain import accounting
from services.aggregator.domain.calendar import Window
from services.aggregator.domain.canonical import digest
from services.aggregator.domain.contracts import MOST_LETTERS_OF_REASON, Draft, Flaw, beginning, flaw_of_text, flaws, last_ended, present
from services.aggregator.facts import Checks
from services.aggregator.promises import Promise
from services.aggregator.store import moment, slot_of
from shared.contracts.commands import FieldProblem, Problem
from shared.contracts.history import (
    RecordedExclusion,
    SlaContractDraft,
    SlaContracts,
    SlaContractsQuery,
    SlaExclusionDraft,
    SlaExclusionRef,
    SlaExclusions,
    SlaReport,
    SlaReportQuery,
    SlaStandings,
)
from shared.contracts.sla import SlaContract, SlaExclusion, SlaStanding
from shared.database import Connection
from shared.rpc import Refused

FARTHEST = timedelta(days=400)
"""How long an exclusion may be, so that a slip of the pen does not exclude a contract's whole life."""

# Days lie in the installation's zone, windows in the contract's: every day that may lie wholly in the window is asked for.
SQL_IS_CLOSED = """
select coalesce((select done_until from rollup_progress where resolution = 'closed') >= $3, false)
   and not exists (select from uptime_records where service_id = any($1::text[]) and date >= $2::date and date < $3::date
                      and finalized_at is null)
   and not exists (select from timeline_dirty where service_id = any($1::text[]) and from_slot < $4)"""


async def read_some(conn: Connection, query: SlaContractsQuery) -> SlaContracts:
    """Return a page of the contracts that are not removed, by id."""
    found = await promises.page(conn, after=query.after, limit=query.limit + 1)
    told = tuple(one.contract for one in found[: query.limit])
    return SlaContracts(contracts=told, next=told[-1].id if len(found) > query.limit else None)


async def read(conn: Connection, contract_id: str) -> SlaContract:
    """Return one contract that is not removed. Raises `Refused` (404)."""
    return (await _present(conn, contract_id)).contract


async def put(conn: Connection, draft: SlaContractDraft, *, now: datetime) -> SlaContract:
    """Create or replace a contract, and return it; saying the same again changes nothing. Raises `Refused` (422) with every flaw.

    What ended under the old terms is judged by them first; the new ones hold for the present window as a whole.
    """
    one = draft.contract
    written = Draft(one.id, one.name, one.target, one.rolling_days, one.time_zone, one.services, one.partial_share)
    if found := flaws(written, missing=await promises.missing_services(conn, one.services)):
        raise _not_valid(found)
    before = await promises.find(conn, one.id, lock=True)
    if before and not before.removed_at:
        if _said(before.contract) == _said(one):
            return before.contract
        await alarms.look_at(conn, [before], now=now, judge_until=now, hurry=True)
    await promises.put(conn, one, now=now, actor=draft.actor)
    return (await _present(conn, one.id)).contract


def _said(one: SlaContract) -> tuple[object, ...]:
    """Return what a person says of a contract, so that it can be compared."""
    counted = (Decimal(one.target), Decimal(one.partial_share), one.count_maintenance, one.count_unknown)
    return (one.name, one.period, one.rolling_days, one.time_zone, one.services, *counted)


async def remove(conn: Connection, contract_id: str, *, actor: str, now: datetime) -> None:
    """Remove a contract; what was said of it stays, and its alerts end. Raises `Refused` (404) for one that never was."""
    before = await promises.find(conn, contract_id, lock=True)
    if before is None:
        raise _not_found(contract_id)
    if not before.removed_at:
        await alarms.look_at(conn, [before], now=now, judge_until=now, hurry=True)
        await promises.remove(conn, contract_id, actor=actor, now=now)


async def exclude(conn: Connection, draft: SlaExclusionDraft, *, now: datetime) -> SlaContract:
    """Let a contract not count a time, with a reason; the same id again excludes once. Return the contract with all its exclusions.

    Raises `Refused`: 404 for an unknown contract, 409 for an id that excludes something else, 422 with every flaw.
    """
    if found := list(_flaws_of(draft)):
        raise _not_valid(found)
    promise = await _present(conn, draft.contract_id, lock=True)
    there = await promises.find_exclusion(conn, draft.id)
    if there is None:
        time = (draft.starts_at, draft.ends_at)
        one = SlaExclusion(id=draft.id, starts_at=time[0], ends_at=time[1], reason=draft.reason, made_by=draft.actor, made_at=now)
        await promises.exclude(conn, draft.contract_id, one)
        return (await _present(conn, draft.contract_id)).contract
    contract_id, one = there
    if (contract_id, one.starts_at, one.ends_at, one.reason) != (draft.contract_id, draft.starts_at, draft.ends_at, draft.reason):
        detail = f"The exclusion {draft.id} is there already, and excludes something else."
        raise Refused(Problem(title="Conflict", status=409, detail=detail))
    return promise.contract


async def revoke_exclusion(conn: Connection, ref: SlaExclusionRef, *, now: datetime) -> RecordedExclusion:
    """Take an exclusion back: from now on it does not hold; what was published with it stays readable. Twice is once.

    Raises `Refused`: 404 for an unknown contract or an exclusion that is not its own, 422 for a reason that says nothing.
    """
    reason = ref.reason.strip()
    if flaw := flaw_of_text(reason, most=MOST_LETTERS_OF_REASON):
        raise _not_valid([Flaw("reason", flaw)])
    await _present(conn, ref.contract_id, lock=True)
    there = await promises.find_exclusion(conn, ref.id)
    if there is None or there[0] != ref.contract_id:
        detail = f"The SLA contract {ref.contract_id!r} has no exclusion {ref.id}."
        raise Refused(Problem(title="Not found", status=404, detail=detail))
    await promises.revoke_exclusion(conn, ref.contract_id, ref.id, reason=reason, actor=ref.actor, now=now)
    revoked = await promises.find_exclusion(conn, ref.id)
    return there[1] if revoked is None else revoked[1]


async def exclusions(conn: Connection, contract_id: str) -> SlaExclusions:
    """Return the exclusions of a contract, newest first, revoked ones too. Raises `Refused` (404)."""
    await _present(conn, contract_id)
    return SlaExclusions(exclusions=tuple(await promises.every_exclusion(conn, contract_id)))


def _flaws_of(draft: SlaExclusionDraft) -> Iterable[Flaw]:
    if draft.ends_at <= draft.starts_at:
        yield Flaw("ends_at", "must be after starts_at")
    if draft.ends_at - draft.starts_at > FARTHEST:
        yield Flaw("ends_at", f"must be at most {FARTHEST.days} days after starts_at")
    if reason := flaw_of_text(draft.reason, most=MOST_LETTERS_OF_REASON):
        yield Flaw("reason", reason)


async def standing(conn: Connection, contract_id: str, *, now: datetime) -> SlaStandings:
    """Return how a contract stands now, service by service. Needs a repeatable read. Raises `Refused` (404)."""
    promise = await _present(conn, contract_id)
    window = present(promise.terms, slot_of(now))
    found = await _standings(conn, promise, window, now=now)
    settled = await facts.settled(conn, promise.contract.services, until=window.end, now=now)
    told = standings.window_told(window)
    return SlaStandings(contract=promise.contract, window=told, standings=found.standings, worst=found.worst, settled=settled)


@dataclass(frozen=True, slots=True)
class _Stood:
    """The standings of a window, by the contract's services; the one that it is told by; the checks of the window."""

    standings: tuple[SlaStanding, ...]
    worst: str | None
    checks: Mapping[str, Checks]


async def _standings(conn: Connection, promise: Promise, window: Window, *, now: datetime) -> _Stood:
    """Return how a contract stands in a window, with burn rates where it is the present one."""
    at, services = slot_of(now), promise.contract.services
    is_present = window == present(promise.terms, at)
    begin = min(window.start, standings.begins(promise, at)) if is_present else window.start
    known = await facts.load(conn, dict.fromkeys(services, begin), until=max(begin, at))
    judgements, burns = [], []
    for service_id in services:
        one = standings.view(promise, service_id, known[service_id])
        judgements.append(standings.judged(one, window, now=at))
        burns.append(standings.burns(one, now=at) if is_present else [])
        await asyncio.sleep(0)  # a contract over many services keeps nobody waiting
    checks = await facts.checks(conn, services, Window(window.start, min(window.end, at)))
    wanted = [sample for service_id, some in zip(services, burns, strict=True) for sample in standings.suspects(service_id, some, now=at)]
    counted = await standings.samples(conn, wanted, now=at)
    found = tuple(
        standings.standing(service_id, judged, checks[service_id], standings.rates(service_id, some, counted, now=at))
        for service_id, judged, some in zip(services, judgements, burns, strict=True)
    )
    worst = accounting.worst(judgements)
    return _Stood(found, None if worst is None else services[judgements.index(worst)], checks)


async def report(conn: Connection, query: SlaReportQuery, *, now: datetime) -> SlaReport:
    """Return what a report on a window of a contract shows, with one digest over the digests of all its audits.

    The contract is told once, and not again in each audit; their digests are those of the whole audits.
    Needs a repeatable read. Raises `Refused`: 404, or 422 for a day that no window begins on, or that has not come yet.
    """
    promise = await _present(conn, query.contract_id)
    first = query.first_day
    window = last_ended(promise.terms, slot_of(now)) if first is None else beginning(promise.terms, first)
    if window is None:
        raise _not_valid([Flaw("first_day", f"a {promise.terms.period.value} of this contract does not begin on {first}")])
    if window.start >= slot_of(now):
        raise _not_valid([Flaw("first_day", "has not come yet")])
    found = await _standings(conn, promise, window, now=now)
    audited = [one async for one in audits.of_contract(conn, promise, window, found.checks, now=now)]
    settled = all(one.settled for one in audited)
    return SlaReport(
        contract=promise.contract,
        window=standings.window_told(window),
        is_final=settled and await _is_final(conn, promise, window, now=now),
        standings=found.standings,
        audits=tuple(one.model_copy(update={"contract": None}) for one in audited),  # a thousand services would name each other
        digest=digest([one.digest for one in audited]),
        settled=settled,
    )


async def _is_final(conn: Connection, promise: Promise, window: Window, *, now: datetime) -> bool:
    """Say whether a window is over, every day of it closed, and nothing of it waits to be told of. Corrections may still come."""
    if slot_of(now) < window.end:
        return False
    days = (moment(window.start).astimezone(UTC), moment(window.end).astimezone(UTC))
    closed: bool = await conn.fetchval(SQL_IS_CLOSED, list(promise.contract.services), *days, window.end)
    return closed


async def _present(conn: Connection, contract_id: str, *, lock: bool = False) -> Promise:
    found = await promises.find(conn, contract_id, lock=lock)
    if found is None or found.removed_at:
        raise _not_found(contract_id)
    return found


def _not_found(contract_id: str) -> Refused:
    return Refused(Problem(title="Not found", status=404, detail=f"There is no SLA contract {contract_id!r}."))


def _not_valid(found: Iterable[Flaw]) -> Refused:
    errors = tuple(FieldProblem(field=one.field, reason=one.reason) for one in found)
    return Refused(Problem(title="Not valid", status=422, detail="Some fields cannot be used.", errors=errors))
