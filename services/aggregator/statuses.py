"""How a changed verdict becomes an interval and an event. Every function runs in the caller's transaction."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from prometheus_client import Counter

from services.aggregator import circumstances, dependencies, evidence, silence, store
from services.aggregator.circumstances import Judged
from services.aggregator.domain import muting, system, verdict
from services.aggregator.domain.muting import USUAL, Alerting, Flapping
from services.aggregator.domain.verdict import Region, Verdict
from services.aggregator.store import Current, Service, moment
from shared import outbox
from shared.contracts.codes import Outcome, Status
from shared.contracts.registry import make_event
from shared.contracts.status import CheckEvidence, Evidence, ServiceStatus, ServiceStatusChangedV1, SystemStatusChangedV1
from shared.database import Connection
from shared.telemetry import correlation_id

SOURCE = "/aggregator"

CHANGES = Counter("sla_aggregator_status_changes_total", "Statuses of services that changed, by the new one", ["status"])


@dataclass(frozen=True, slots=True)
class Facts:
    """A status, since when it holds, and why."""

    status: Status
    since: datetime
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Proof:
    """What is said beside verdicts: the checks that they rest on, by service, and the regions where a checker is isolated."""

    checks: Mapping[str, tuple[CheckEvidence, ...]]
    isolated: Collection[str]


async def judge(
    conn: Connection,
    services: Iterable[Service],
    regions: Mapping[str, Mapping[str, Region]],
    *,
    now: datetime,
    flapping: Flapping = USUAL,
) -> int:
    """Conclude the status of services from their regions and from what is around them, and say what changed; return of how many.

    The services are locked by the caller. One whose definition has not come yet is left until it comes.
    """
    known = {service.id: service for service in services if service.version > 0}
    current = await store.current_statuses(conn, list(known))
    concluded = {service.id: _conclude(service, service.judged(regions[service.id])) for service in known.values()}
    judged = _judged(list(known.values()), concluded, current)
    around = await circumstances.around(conn, judged, now=now, window=flapping.window)
    alertings: dict[str, Alerting] = {}
    news, again = set[str](), dict[str, int]()
    for one, verdict_ in concluded.items():
        before = current.get(one)
        moved = before is None or _what(verdict_) != (before.status, before.down, before.degraded)
        alertings[one] = muting.alerting(verdict_.status, _said(before), around[one], flapping, moved=moved)
        if before is None or moved or verdict_.silent != before.silent:  # which regions are heard is told, and alerts nobody anew
            news.add(one)
        elif alertings[one] != before.said:
            again[one] = before.version
    proof = await _proof(conn, {one: concluded[one] for one in news}, now=now)
    said = await evidence.said(conn, again)
    told: list[ServiceStatus] = []
    for one in (one for one in known if one in news or one in again):
        service, verdict_, before = known[one], concluded[one], current.get(one)
        if before is not None and one in again:
            facts = Facts(before.status, before.since, said[one])
        else:
            facts = Facts(verdict_.status, _since(service, verdict_, before, now=now), _evidence(service, verdict_, before, proof))
        told.append(_next(service, facts, alertings[one], before, now=now))
    await _say(conn, told, now=now)
    return len(told)


def _judged(services: Sequence[Service], concluded: Mapping[str, Verdict], current: Mapping[str, Current]) -> Judged:
    down = Status.MAJOR_OUTAGE
    return Judged(
        services,
        down={one for one, verdict_ in concluded.items() if verdict_.status is down},
        turning={one for one, before in current.items() if _turns(before.status, concluded[one].status)},
        restless={one for one, before in current.items() if before.said.flapping},
        untold=_untold(concluded, current),
        back={one for one, before in current.items() if before.status is down and concluded[one].status is not down},
    )


def _said(before: Current | None) -> Alerting:
    return before.said if before else Alerting()


def _conclude(service: Service, regions: list[Region]) -> Verdict:
    if not service.is_watched:
        return Verdict(Status.EMPTY)
    return verdict.judge(regions, service.thresholds, check_interval=service.check_interval, quorum=service.quorum)


def _what(concluded: Verdict) -> tuple[Status, tuple[str, ...], tuple[str, ...]]:
    """Return what makes a verdict another one: the status, and the regions that disagree."""
    return concluded.status, concluded.down, concluded.degraded


def _turns(before: Status, after: Status) -> bool:
    """Say whether the status changes. To be switched off and on is no restlessness."""
    return before is not after and Status.EMPTY not in {before, after}


def _untold(concluded: Mapping[str, Verdict], current: Mapping[str, Current]) -> dict[str, datetime | None]:
    """Return the services not well that nobody was alerted of, with when they began to fail; None: they were so, muted, before."""
    found: dict[str, datetime | None] = {}
    for one, verdict_ in concluded.items():
        before = current.get(one)
        if before and before.status in muting.UNWELL and before.said.muted_by is not None:
            found[one] = None
        elif verdict_.first_failed is not None and not (before and before.status in muting.ALERTED):
            found[one] = moment(verdict_.first_failed)
    return {one: began for one, began in found.items() if concluded[one].status in muting.UNWELL}


def _next(service: Service, facts: Facts, alerting: Alerting, before: Current | None, *, now: datetime) -> ServiceStatus:
    """Return the next version of a status. One that differs only in `alerting` begins where the former did, which then has no length."""
    return ServiceStatus(
        service_id=service.id,
        status=facts.status,
        since=facts.since,
        detected_at=now,
        previous=before.status if before else None,
        previous_since=before.since if before else None,
        previous_version=before.version if before else 0,
        previous_muted_by=before.said.muted_by if before else None,
        evidence=facts.evidence,
        degraded=facts.status is Status.PARTIAL_OUTAGE and not facts.evidence.regions_down,
        maintenance=alerting.maintenance,
        flapping=alerting.flapping,
        muted_by=alerting.muted_by,
        version=(before.version if before else 0) + 1,
    )


async def _say(conn: Connection, said: Sequence[ServiceStatus], *, now: datetime) -> None:
    """Write down and say new versions, a few statements for all, and have those judged again who may be muted by one of them."""
    if not said:
        return
    await store.begin_intervals(conn, said)
    turned = [one for one in said if (one.previous is Status.MAJOR_OUTAGE) != (one.status is Status.MAJOR_OUTAGE)]
    if turned:
        fallen = [one.service_id for one in turned if one.status is Status.MAJOR_OUTAGE]
        await dependencies.ask_dependents(conn, fallen, [one.service_id for one in turned if one.service_id not in fallen], now=now)
    told = correlation_id()
    await outbox.append_many(
        conn,
        [
            make_event(
                ServiceStatusChangedV1(status=one), source=SOURCE, subject=one.service_id, version=one.version, at=now, correlation_id=told
            )
            for one in said
        ],
    )
    for one in said:
        CHANGES.labels(one.status.value).inc()


def _since(service: Service, concluded: Verdict, before: Current | None, *, now: datetime) -> datetime:
    """Return since when the new status holds: never before the old one began, so that intervals follow each other."""
    if concluded.status is Status.EMPTY:
        since = service.removed_at or now
    elif before and before.status is Status.EMPTY:
        since = now  # switched on again: what was missed before says nothing of it
    elif concluded.since is not None:
        since = moment(concluded.since)
    else:
        since = (service.created_at or now) if before is None else now
    # what was first missed may lie ahead of now by a part of an interval when a region was declared silent early
    since = min(since, now)
    return max(since, before.since) if before else since


async def _proof(conn: Connection, concluded: Mapping[str, Verdict], *, now: datetime) -> Proof:
    checks = await evidence.checks(conn, {one: verdict_.proof for one, verdict_ in concluded.items()})
    unheard = any(one.status is Status.NO_DATA and one.silent for one in concluded.values())
    return Proof(checks, await silence.isolated_regions(conn, now=now) if unheard else frozenset())


def _evidence(service: Service, concluded: Verdict, before: Current | None, proof: Proof) -> Evidence:
    failed, confirmed = concluded.first_failed, concluded.confirmed
    # what confirmed an outage that goes on from other regions may be longer ago than what is remembered of them
    earlier = before.confirmed_at if before and failed is not None else None
    return Evidence(
        reason=_reason(service, concluded, proof),
        regions_down=concluded.down,
        regions_degraded=concluded.degraded,
        regions_up=concluded.up,
        regions_silent=concluded.silent,
        checks=proof.checks[service.id],
        first_failed_at=None if failed is None else moment(failed),
        confirmed_at=earlier if confirmed is None else moment(confirmed),
    )


def _reason(service: Service, concluded: Verdict, proof: Proof) -> str:
    down, up, degraded = (", ".join(names) for names in (concluded.down, concluded.up, concluded.degraded))
    match concluded.status:
        case Status.MAJOR_OUTAGE:
            whole = f"{service.thresholds.failure} or more checks in a row failed in every region with data: {down}."
            quorum = f"Down from {down}, which are as many regions as make an outage ({service.quorum}); up from {up}."
            return quorum if up else whole
        case Status.PARTIAL_OUTAGE:
            if not concluded.down:
                messages = (one.error_message for one in proof.checks[service.id] if one.outcome is Outcome.DEGRADED and one.error_message)
                return f"Up, but degraded: {next(messages, 'see the checks')} (from {degraded})."
            return f"Down from {down}, up from {up}" + (f", of these degraded: {degraded}." if degraded else ".")
        case Status.OPERATIONAL:
            return f"Checks succeed in every region with data: {up}."
        case Status.EMPTY:
            return "The service was removed." if service.removed_at else "The service is not active."
        case Status.NO_DATA:
            return _unheard(concluded, proof)


def _unheard(concluded: Verdict, proof: Proof) -> str:
    """Return why nothing is known."""
    if concluded.unsure:
        return f"Too few results yet from {', '.join(concluded.unsure)}."
    if not concluded.silent:
        return "No results yet."
    isolated = ", ".join(name for name in concluded.silent if name in proof.isolated)
    return f"No results come any more from {', '.join(concluded.silent)}" + (f": a checker is isolated in {isolated}." if isolated else ".")


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
