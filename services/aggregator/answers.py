"""What is asked about the past, and who answers it: timelines, audits, dry runs, corrections, SLA contracts."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from services.aggregator import audits, chronicle, corrections, rollups, slas
from shared.clock import Clock
from shared.contracts.base import Contract
from shared.contracts.commands import (
    CORRECTIONS_LIST,
    CORRECTIONS_MAKE,
    CORRECTIONS_REVOKE,
    SLA_EXCLUDE,
    SLA_EXCLUSION_REVOKE,
    SLA_EXCLUSIONS,
    SLA_LIST,
    SLA_PUT,
    SLA_READ,
    SLA_REMOVE,
    SLA_REPORT,
    SLA_STANDING,
    STATUS_HISTORY,
    TIMELINE_DRY_RUN,
    TIMELINE_READ,
    UPTIME_AUDIT,
    Method,
    Nothing,
    Problem,
    ServiceRef,
)
from shared.contracts.history import (
    Audit,
    AuditQuery,
    CorrectionDraft,
    CorrectionRef,
    Corrections,
    DryRun,
    DryRunQuery,
    Period,
    RecordedExclusion,
    SlaContractDraft,
    SlaContractRef,
    SlaContracts,
    SlaContractsQuery,
    SlaExclusionDraft,
    SlaExclusionRef,
    SlaExclusions,
    SlaReport,
    SlaReportQuery,
    SlaStandings,
    StatusHistory,
    Timeline,
)
from shared.contracts.sla import Correction, SlaContract
from shared.database import Connection, Pool, transaction
from shared.rpc import Refused

DRY_RUN_S = 25.0
"""How long a dry run may take, with the wait for its turn: less than a gateway waits for it. Ninety days, each 10 s, take 2 s a region."""
MOST_WAITING = 3
"""So many wait for the dry run that is being computed."""

Answers = Mapping[Method[Any, Any], Callable[[Any], Awaitable[Contract]]]


@asynccontextmanager
async def reading(pool: Pool) -> AsyncIterator[Connection]:
    """One transaction that reads as of one moment, and for which rolling up does not wait: it stores no checks."""
    async with pool.acquire() as conn, conn.transaction(isolation="repeatable_read", readonly=True):
        await rollups.stand_aside(conn)
        yield conn


class Turns:
    """Who may compute a dry run: one at a time, as it takes seconds where results are folded; a few wait, nobody longer than is asked."""

    def __init__(self) -> None:
        """Nobody computes."""
        self._one = asyncio.Semaphore()
        self._asked = 0

    @asynccontextmanager
    async def mine(self) -> AsyncIterator[None]:
        """Wait for the turn, and have it. Raises `Refused` (503) where too many wait, or when it took too long."""
        if self._asked > MOST_WAITING:
            detail = "Other dry runs are being computed: try again in a moment."
            raise _busy(detail)
        self._asked += 1
        try:
            async with asyncio.timeout(DRY_RUN_S), self._one:
                yield
        except TimeoutError:
            detail = f"Not done within {DRY_RUN_S:g} seconds: ask for a shorter time, or for fewer regions."
            raise _busy(detail) from None
        finally:
            self._asked -= 1


def _busy(detail: str) -> Refused:
    return Refused(Problem(title="Too much to compute", status=503, detail=detail))


def about_the_past(pool: Pool, clock: Clock) -> Answers:
    """Return who answers what. Reads are as of one moment."""
    turns = Turns()

    async def timeline(params: Period) -> Timeline:
        async with reading(pool) as conn:
            return await audits.read_timeline(conn, params, now=clock())

    async def statuses(params: Period) -> StatusHistory:
        async with reading(pool) as conn:
            return await chronicle.read(conn, params)

    async def audit(params: AuditQuery) -> Audit:
        async with reading(pool) as conn:
            return await audits.audit(conn, params, now=clock())

    async def dry_run(params: DryRunQuery) -> DryRun:
        async with turns.mine(), reading(pool) as conn:
            return await audits.dry_run(conn, params, now=clock())

    async def correct(params: CorrectionDraft) -> Correction:
        async with transaction(pool) as conn:
            return await corrections.make(conn, params, now=clock())

    async def revoke(params: CorrectionRef) -> Correction:
        async with transaction(pool) as conn:
            return await corrections.revoke(conn, params, now=clock())

    async def corrected(params: ServiceRef) -> Corrections:
        async with pool.acquire() as conn:
            return await corrections.of_service(conn, params.id)

    return {
        TIMELINE_READ: timeline,
        STATUS_HISTORY: statuses,
        UPTIME_AUDIT: audit,
        TIMELINE_DRY_RUN: dry_run,
        CORRECTIONS_MAKE: correct,
        CORRECTIONS_REVOKE: revoke,
        CORRECTIONS_LIST: corrected,
    }


def about_contracts(pool: Pool, clock: Clock) -> Answers:
    """Return who answers what of SLA contracts."""
    return {**_reads_of_contracts(pool, clock), **_commands_of_contracts(pool, clock)}


def _reads_of_contracts(pool: Pool, clock: Clock) -> Answers:
    """Each as of one moment."""

    async def contracts(params: SlaContractsQuery) -> SlaContracts:
        async with reading(pool) as conn:
            return await slas.read_some(conn, params)

    async def contract(params: SlaContractRef) -> SlaContract:
        async with reading(pool) as conn:
            return await slas.read(conn, params.id)

    async def excluded(params: SlaContractRef) -> SlaExclusions:
        async with reading(pool) as conn:
            return await slas.exclusions(conn, params.id)

    async def standing(params: SlaContractRef) -> SlaStandings:
        async with reading(pool) as conn:
            return await slas.standing(conn, params.id, now=clock())

    async def report(params: SlaReportQuery) -> SlaReport:
        async with reading(pool) as conn:
            return await slas.report(conn, params, now=clock())

    return {SLA_LIST: contracts, SLA_READ: contract, SLA_EXCLUSIONS: excluded, SLA_STANDING: standing, SLA_REPORT: report}


def _commands_of_contracts(pool: Pool, clock: Clock) -> Answers:
    async def put(params: SlaContractDraft) -> SlaContract:
        async with transaction(pool) as conn:
            return await slas.put(conn, params, now=clock())

    async def remove(params: SlaContractRef) -> Nothing:
        async with transaction(pool) as conn:
            await slas.remove(conn, params.id, actor=params.actor, now=clock())
        return Nothing()

    async def exclude(params: SlaExclusionDraft) -> SlaContract:
        async with transaction(pool) as conn:
            return await slas.exclude(conn, params, now=clock())

    async def revoke(params: SlaExclusionRef) -> RecordedExclusion:
        async with transaction(pool) as conn:
            return await slas.revoke_exclusion(conn, params, now=clock())

    return {SLA_PUT: put, SLA_REMOVE: remove, SLA_EXCLUDE: exclude, SLA_EXCLUSION_REVOKE: revoke}
