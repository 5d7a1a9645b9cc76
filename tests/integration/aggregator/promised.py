"""Timelines as the aggregator publishes them, contracts as people write them, and what is said of them: for tests of SLA contracts."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from services.aggregator import alarms, slas
from shared.contracts.codes import SlaPeriod
from shared.contracts.history import (
    RecordedExclusion,
    SlaContractDraft,
    SlaExclusionDraft,
    SlaExclusionRef,
    SlaReport,
    SlaReportQuery,
    SlaStandings,
)
from shared.contracts.registry import decode
from shared.contracts.sla import SlaBreachedV1, SlaBudgetExhaustedV1, SlaBurnRateV1, SlaContract, SlaStanding
from shared.database import Pool, transaction

Stretch = tuple[str, datetime, datetime | None]
"""A state, from when to when; None: it goes on."""

SQL_STRETCH = """
insert into timeline (service_id, state, started_at, ended_at, known_from) values ($1, $2, $3, $4, coalesce($5, now()))"""
SQL_FORGET = "update timeline set known_until = $2 where service_id = $1 and known_until is null"
SQL_SERVICE = """
insert into service (id, version, name, is_active, created_at)
select unnest($1::text[]), 1, 'x', true, '2020-01-01' on conflict do nothing"""
SQL_CHECKS = """
insert into api_response_times (id, service_id, region, scheduled_at, measured_at, outcome, is_success)
select gen_random_uuid(), $1, 'eu', at, at, case when $4 then 'healthy' else 'failed' end, $4
  from generate_series($2::timestamptz, $3::timestamptz - interval '1 millisecond', $5::interval) at"""
SQL_CORRECT = """
insert into correction (id, service_id, starts_at, ends_at, state, reason, made_by, made_at)
values ($1, $2, $3, $4, $5, 'they said so', 'ada', $6)"""
SQL_MAINTAIN = """
insert into maintenance_window (id, version, title, services, status, starts_at, ends_at) values ($1, 1, 'works', $2, $3, $4, $5)"""


async def services(pool: Pool, *ids: str) -> None:
    """Let services exist."""
    await pool.execute(SQL_SERVICE, list(ids))


async def publish(pool: Pool, service_id: str, stretches: Sequence[Stretch], *, known_from: datetime | None = None) -> None:
    """Publish a timeline in place of what was believed."""
    await services(pool, service_id)
    await pool.execute(SQL_FORGET, service_id, known_from or datetime.now(stretches[0][1].tzinfo))
    for state, start, end in stretches:
        await pool.execute(SQL_STRETCH, service_id, state, start, end, known_from)


async def outage(pool: Pool, service_id: str, began: datetime, start: datetime, end: datetime | None, *, state: str = "down") -> None:
    """Publish a timeline that is up but for one stretch."""
    after: list[Stretch] = [] if end is None else [("up", end, None)]
    await publish(pool, service_id, [("up", began, start), (state, start, end), *after])


async def checked(
    pool: Pool, service_id: str, start: datetime, end: datetime, *, ok: bool = True, every: timedelta = timedelta(minutes=1)
) -> None:
    """Store a check every so often."""
    await pool.execute(SQL_CHECKS, service_id, start, end, ok, every)


async def correct(pool: Pool, service_id: str, start: datetime, end: datetime, state: str, *, made_at: datetime) -> None:
    """Reclassify a stretch of the past."""
    await pool.execute(SQL_CORRECT, uuid4(), service_id, start, end, state, made_at)


async def maintain(pool: Pool, service_id: str, start: datetime, end: datetime, *, status: str = "completed") -> None:
    """Announce work."""
    await pool.execute(SQL_MAINTAIN, uuid4(), [service_id], status, start, end)


def contract(
    *covered: str,
    contract_id: str = "gold",
    target: str = "99.9",
    period: SlaPeriod = SlaPeriod.MONTH,
    rolling_days: int = 30,
    time_zone: str = "UTC",
    partial_share: str = "0.3",
    count_unknown: bool = False,
) -> SlaContract:
    """Return a contract as a person writes it."""
    return SlaContract(
        id=contract_id,
        name="Gold",
        target=target,
        period=period,
        rolling_days=rolling_days,
        time_zone=time_zone,
        services=covered or ("api",),
        partial_share=partial_share,
        count_unknown=count_unknown,
    )


async def put(pool: Pool, one: SlaContract, *, now: datetime) -> SlaContract:
    """Create or replace a contract."""
    async with transaction(pool) as conn:
        return await slas.put(conn, SlaContractDraft(contract=one, actor="ada"), now=now)


async def exclude(
    pool: Pool,
    start: datetime,
    end: datetime,
    *,
    now: datetime,
    contract_id: str = "gold",
    exclusion: UUID | None = None,
    reason: str = "agreed",
) -> SlaContract:
    """Let a contract not count a time."""
    draft = SlaExclusionDraft(contract_id=contract_id, id=exclusion or uuid4(), starts_at=start, ends_at=end, reason=reason, actor="ada")
    async with transaction(pool) as conn:
        return await slas.exclude(conn, draft, now=now)


async def revoke(
    pool: Pool, exclusion: UUID, *, now: datetime, contract_id: str = "gold", reason: str = "a slip of the pen", actor: str = "lee"
) -> RecordedExclusion:
    """Take an exclusion back."""
    ref = SlaExclusionRef(contract_id=contract_id, id=exclusion, reason=reason, actor=actor)
    async with transaction(pool) as conn:
        return await slas.revoke_exclusion(conn, ref, now=now)


async def exclusions(pool: Pool, contract_id: str = "gold") -> tuple[RecordedExclusion, ...]:
    """Return the exclusions of a contract, revoked ones too."""
    async with pool.acquire() as conn:
        return (await slas.exclusions(conn, contract_id)).exclusions


async def standing(pool: Pool, *, now: datetime, contract_id: str = "gold") -> SlaStandings:
    """Return how a contract stands."""
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        return await slas.standing(conn, contract_id, now=now)


async def only(pool: Pool, *, now: datetime) -> SlaStanding:
    """Return the one standing of the one contract."""
    (found,) = (await standing(pool, now=now)).standings
    return found


async def report(pool: Pool, query: SlaReportQuery, *, now: datetime) -> SlaReport:
    """Return a report."""
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        return await slas.report(conn, query, now=now)


async def look(pool: Pool, *, now: datetime, stored_until: datetime | None = None, is_stored: bool = True) -> int | None:
    """Look at all contracts once; unless told otherwise everything that was sent is stored."""
    return await alarms.look(pool, now=now, stored_until=(stored_until or now) if is_stored else None)


async def said(pool: Pool) -> list[str]:
    """Return what was said, in order: the contract and its version, the service, and what."""
    rows = await pool.fetch("select type, body from outbox where type like 'sla.%' order by position")
    return [_said(decode(row["type"], row["body"].encode()).data, decode(row["type"], row["body"].encode()).subject) for row in rows]


def _said(event: SlaBurnRateV1 | SlaBudgetExhaustedV1 | SlaBreachedV1, subject: str) -> str:
    match event:
        case SlaBurnRateV1():
            return f"{subject} {event.service_id} {event.burn.rule} {'begins' if event.burn.alerting else 'ends'}"
        case SlaBudgetExhaustedV1():
            return f"{subject} {event.standing.service_id} exhausted"
        case SlaBreachedV1():
            return f"{subject} {event.standing.service_id} breached {event.window.starts_at:%Y-%m-%d}"
