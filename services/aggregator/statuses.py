"""How a changed verdict becomes an interval and an event. Every function runs in the caller's transaction."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from prometheus_client import Counter

from services.aggregator import records, store
from services.aggregator.domain import system, verdict
from services.aggregator.domain.verdict import Region, Verdict
from services.aggregator.store import Current, Service
from shared import outbox
from shared.contracts.codes import Outcome, Status
from shared.contracts.registry import make_event
from shared.contracts.status import CheckEvidence, Evidence, ServiceStatus, ServiceStatusChangedV1, SystemStatusChangedV1
from shared.database import Connection
from shared.telemetry import correlation_id

SOURCE = "/aggregator"

CHANGES = Counter("sla_aggregator_status_changes_total", "Statuses of services that changed, by the new one", ["status"])


async def judge(conn: Connection, services: Iterable[Service], regions: Mapping[str, Mapping[str, Region]], *, now: datetime) -> int:
    """Conclude the status of services from their regions, and say those that changed; return how many did.

    The services are locked by the caller. One whose definition has not come yet is left until it comes.
    """
    known = [service for service in services if service.version > 0]
    current = await store.current_statuses(conn, [service.id for service in known])
    changed = 0
    for service in known:
        concluded = _conclude(service, service.judged(regions[service.id]))
        before = current.get(service.id)
        if before is None or before.status is not concluded.status:
            await _change(conn, service, concluded, before, now=now)
            changed += 1
    return changed


def _conclude(service: Service, regions: list[Region]) -> Verdict:
    if not service.is_watched:
        return Verdict(Status.EMPTY)
    return verdict.judge(regions, service.thresholds, check_interval=service.check_interval)


async def _change(conn: Connection, service: Service, concluded: Verdict, before: Current | None, *, now: datetime) -> None:
    status = ServiceStatus(
        service_id=service.id,
        status=concluded.status,
        since=_since(service, concluded, before, now=now),
        detected_at=now,
        previous=before.status if before else None,
        previous_since=before.since if before else None,
        previous_version=before.version if before else 0,
        evidence=await _evidence(conn, service, concluded),
        version=(before.version if before else 0) + 1,
    )
    await store.begin_interval(conn, status)
    if before and before.status is Status.MAJOR_OUTAGE:
        await records.refresh_downtime(conn, first=before.since.date(), last=status.since.date(), now=now, service_id=service.id)
    event = make_event(
        ServiceStatusChangedV1(status=status),
        source=SOURCE,
        subject=service.id,
        version=status.version,
        at=now,
        correlation_id=correlation_id(),
    )
    await outbox.append(conn, event)
    CHANGES.labels(status.status.value).inc()


def _since(service: Service, concluded: Verdict, before: Current | None, *, now: datetime) -> datetime:
    """Return since when the new status holds: never before the old one began, so that intervals follow each other."""
    if concluded.status is Status.EMPTY:
        since = service.removed_at or now
    elif concluded.since is not None:
        since = store.moment(concluded.since)
    else:
        since = (service.created_at or now) if before is None else now
    # what was first missed may lie ahead of now by a part of an interval when a region was declared silent early
    since = min(since, now)
    return max(since, before.since) if before else since


async def _evidence(conn: Connection, service: Service, concluded: Verdict) -> Evidence:
    checks = await records.evidence(conn, service.id, concluded.proof) if concluded.proof else ()
    return Evidence(
        reason=_reason(service, concluded, checks),
        regions_down=concluded.down,
        regions_up=concluded.up,
        regions_silent=concluded.silent,
        checks=checks,
    )


def _reason(service: Service, concluded: Verdict, checks: Iterable[CheckEvidence]) -> str:
    down, up, silent, degraded = (", ".join(names) for names in (concluded.down, concluded.up, concluded.silent, concluded.degraded))
    match concluded.status:
        case Status.MAJOR_OUTAGE:
            return f"{service.thresholds.failure} or more checks in a row failed in every region with data: {down}."
        case Status.PARTIAL_OUTAGE:
            if not concluded.down:
                messages = (one.error_message for one in checks if one.outcome is Outcome.DEGRADED and one.error_message)
                return f"Up, but degraded: {next(messages, 'see the checks')} (from {degraded})."
            return f"Down from {down}, up from {up}" + (f", of these degraded: {degraded}." if degraded else ".")
        case Status.OPERATIONAL:
            return f"Checks succeed in every region with data: {up}."
        case Status.EMPTY:
            return "The service was removed." if service.removed_at else "The service is not active."
        case Status.NO_DATA:
            return f"No results come any more from {silent}." if silent else "No results yet."


async def refresh_system(conn: Connection, *, now: datetime) -> None:
    """Bring the status of the whole up to date, and say it if anything in it changed. Call it last: its row is the last lock."""
    before = await store.lock_system(conn)
    whole = system.overall(await store.counts_by_status(conn))
    active, last_at = await store.incident_counts(conn)
    after = (whole.overall, whole.operational, whole.total, active, last_at, whole.message)
    if after == (
        before.overall_status,
        before.operational_services,
        before.total_services,
        before.active_incidents,
        before.last_incident_at,
        before.message,
    ):
        return
    saved = await store.save_system(conn, whole, active_incidents=active, last_incident_at=last_at)
    event = make_event(
        SystemStatusChangedV1(system=saved),
        source=SOURCE,
        subject="current",
        version=saved.version,
        at=now,
        correlation_id=correlation_id(),
    )
    await outbox.append(conn, event)
