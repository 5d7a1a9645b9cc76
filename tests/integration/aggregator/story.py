"""What checkers and the checker's definitions say, for tests of the aggregator; and what the aggregator answers, read from its tables."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import uuid4

from services.aggregator import usecases
from shared.contracts.checks import CheckBatchV1, CheckResult, check_id
from shared.contracts.codes import ErrorType, Outcome
from shared.contracts.envelope import Event
from shared.contracts.registry import decode, make_event
from shared.contracts.services import ServiceDefinition
from shared.contracts.status import ServiceStatus, ServiceStatusChangedV1, SystemStatus, SystemStatusChangedV1
from shared.database import Pool, transaction

START = datetime(2026, 3, 10, 12, 0, tzinfo=UTC)
INTERVAL_MS = 2000
SIGNS = {"+": Outcome.HEALTHY, "~": Outcome.DEGRADED, "-": Outcome.FAILED, "?": Outcome.UNKNOWN}
_batch = count(1)


def at(slot: float) -> datetime:
    """Return the moment of a slot."""
    return START + timedelta(milliseconds=slot * INTERVAL_MS)


def definition(
    service_id: str = "id-recognition",
    *,
    version: int = 1,
    is_active: bool = True,
    created_at: datetime = START,
    regions: tuple[str, ...] = (),
    quorum: str = "majority",
    depends_on: tuple[str, ...] = (),
) -> ServiceDefinition:
    """Return a definition with thresholds of 2."""
    return ServiceDefinition(
        id=service_id,
        name=service_id.replace("-", " ").title(),
        display_name=service_id,
        kind="http",
        endpoint_url="http://127.0.0.1:9/",
        check_interval=INTERVAL_MS,
        timeout=1000,
        failure_threshold=2,
        recovery_threshold=2,
        is_active=is_active,
        regions=regions,
        quorum=quorum,
        depends_on=depends_on,
        created_at=created_at,
        updated_at=created_at,
        version=version,
    )


def results(
    pattern: str, *, first: int = 0, service_id: str = "id-recognition", region: str = "eu", start: datetime = START
) -> list[CheckResult]:
    """Return results of the slots from `first` on: + healthy, ~ degraded, - failed, ? unknown.

    Response times differ, so that orders would show.
    """
    return [_result(SIGNS[sign], slot, service_id, region, start) for slot, sign in enumerate(pattern, start=first)]


def _result(outcome: Outcome, slot: int, service_id: str, region: str, start: datetime) -> CheckResult:
    moment = start + timedelta(milliseconds=slot * INTERVAL_MS)
    failed, degraded = outcome is Outcome.FAILED, outcome is Outcome.DEGRADED
    return CheckResult(
        id=check_id(service_id, region, moment),
        service_id=service_id,
        region=region,
        scheduled_at=moment,
        checked_at=moment + timedelta(milliseconds=3),
        outcome=outcome,
        response_time_ms=None if outcome is Outcome.UNKNOWN else 10.0 + (slot * 7919) % 1000 / 7,
        status_code=503 if failed else 200,
        error_type=ErrorType.HTTP_ERROR if failed else ErrorType.ASSERTION_FAILED if degraded else None,
        error_message="503 Service Unavailable\x00" if failed else "slower than 500 ms" if degraded else None,
        evidence="a failing answer\x00" if failed else None,
        details={"loss": 0.5, "\x00": ["\x00"]} if degraded else {},
        endpoint="http://127.0.0.1:9/",
        method="GET",
    )


def confirmation(one: CheckResult, *, attempt: int, after_ms: int) -> CheckResult:
    """Return what a confirmation found, so long after the slot of `one`, with the same outcome."""
    due = one.scheduled_at + timedelta(milliseconds=after_ms)
    changes = {"id": check_id(one.service_id, one.region, due), "scheduled_at": due, "checked_at": due, "attempt": attempt}
    return one.model_copy(update=changes)


def batch(found: Iterable[CheckResult], *, sent: datetime = START) -> Event[CheckBatchV1]:
    """Return a batch as a checker sends it."""
    payload = CheckBatchV1(checker="checker-1", results=tuple(found))
    return make_event(payload, source="/checker", subject="eu", version=next(_batch), at=sent, correlation_id="story")


async def fold(pool: Pool, *batches: Event[CheckBatchV1], now: datetime) -> usecases.Folded:
    """Fold batches in one transaction, as the consumer does."""
    await usecases.introduce_strangers(pool, batches)
    async with transaction(pool) as conn:
        return await usecases.fold(conn, batches, now=now)


async def see(pool: Pool, pattern: str, *, first: int = 0, service_id: str = "id-recognition", region: str = "eu") -> usecases.Folded:
    """Fold one batch soon after its last slot."""
    found = results(pattern, first=first, service_id=service_id, region=region)
    return await fold(pool, batch(found), now=at(first + len(pattern) - 0.5))


async def learn(pool: Pool, one: ServiceDefinition, *, removed_at: datetime | None = None, now: datetime = START) -> None:
    """Tell the aggregator of a definition, in an event of its own."""
    async with transaction(pool) as conn:
        await usecases.learn_service(conn, str(uuid4()), one, removed_at=removed_at, now=now)


async def said(pool: Pool) -> list[Event[Any]]:
    """Return the events that the outbox holds, in order."""
    return [decode(row["type"], row["body"].encode()) for row in await pool.fetch("select type, body from outbox order by position")]


async def service_changes(pool: Pool, service_id: str = "id-recognition") -> list[ServiceStatus]:
    """Return what was said of a service, in order."""
    events = [one.data for one in await said(pool)]
    return [one.status for one in events if isinstance(one, ServiceStatusChangedV1) and one.status.service_id == service_id]


async def system_changes(pool: Pool) -> list[SystemStatus]:
    """Return what was said of the whole, in order."""
    return [one.data.system for one in await said(pool) if isinstance(one.data, SystemStatusChangedV1)]


VOLATILE = {"id", "created_at", "updated_at", "detected_at", "position"}


async def numbers(pool: Pool) -> dict[str, Sequence[dict[str, Any]]]:
    """Return everything that was counted, without what depends on when it was written."""
    tables = ("api_call_logs", "uptime_records", "region_state", "system_status")
    found: dict[str, Sequence[dict[str, Any]]] = {}
    for table in tables:
        rows = await pool.fetch(f'select * from {table} as t order by t::text collate "C"')
        plain = [{key: value for key, value in row.items() if key not in VOLATILE} for row in rows]
        found[table] = sorted(plain, key=lambda row: str(list(row.values())[:2]))
    return found
