"""What a service's status means for its incident.

An outage opens one, a worse outage escalates it, `o` (it works again) or `e` (nobody watches any more) resolves it; `nd` does neither.
Statuses are told in events that carry their version and the status before. So what was missed or overtaken is not lost:

- An outage that nobody is to be alerted of (`muted_by`) opens nothing and makes nothing worse that is open; that it is over counts. When
  the mute ends while it lasts, it is told again unmuted, with the same beginning, and the incident is dated back to that.
- A newer status whose predecessor was never heard of is preceded by that predecessor, as if it had come in time.
- An older status changes nothing, unless it tells of an outage that no incident covers: that one is put on record, already
  resolved if it is over by what is known. One that went on into an outage that is covered is covered by that.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID, uuid5

from services.incidents.domain.incident import Decision, Entry, Incident, Step, entry_id, opened, resolved
from shared.contracts.codes import IncidentStatus, Priority, Severity, Status

INCIDENT_NAMESPACE = UUID("6f1c2f0e-5a53-5b3f-9d0e-2f6f4a7c1b11")
SYSTEM = "system"
OUTAGES = frozenset({Status.PARTIAL_OUTAGE, Status.MAJOR_OUTAGE})
OVER = frozenset({Status.OPERATIONAL, Status.EMPTY})
RANK = {severity: rank for rank, severity in enumerate(Severity)}
WORDS = {Status.PARTIAL_OUTAGE: "partial outage", Status.MAJOR_OUTAGE: "major outage"}


@dataclass(frozen=True, slots=True)
class Policy:
    """How bad each outage is."""

    severity: Mapping[Status, Severity] = field(
        default_factory=lambda: {Status.MAJOR_OUTAGE: Severity.CRITICAL, Status.PARTIAL_OUTAGE: Severity.MEDIUM}
    )
    priority: Mapping[Severity, Priority] = field(default_factory=lambda: dict(zip(Severity, reversed(Priority), strict=True)))


@dataclass(frozen=True, slots=True)
class Fact:
    """A service was in a status since a moment; `version` orders the statuses of a service."""

    status: Status
    since: datetime
    version: int
    muted: bool = False

    @property
    def alarms(self) -> bool:
        """Whether it is an outage that somebody is to be alerted of."""
        return self.status in OUTAGES and not self.muted


@dataclass(frozen=True, slots=True)
class Service:
    """A service, by the name that people know, and the newest fact heard of it."""

    id: str
    name: str
    heard: Fact | None


@dataclass(frozen=True, slots=True)
class Circumstances:
    """Whom a fact is about, when it is heard, and by what rules."""

    service: Service
    now: datetime
    policy: Policy


def hear(
    told: Fact, before: Fact | None, under: Circumstances, *, open_incident: Incident | None, covered: Collection[int]
) -> list[Decision]:
    """Return what follows from a status that was told together with the one before it, in order.

    `covered`: those versions that an incident covers already, of the two and the one that followed.
    """
    facts = [fact for fact in (before, told) if fact is not None]
    newest = under.service.heard.version if under.service.heard else 0
    if told.version <= newest:
        outages = [fact for fact in facts if fact.alarms and not {fact.version, fact.version + 1} & set(covered)]
        return _late(outages, facts, under, open_incident)
    decisions: list[Decision] = []
    present = open_incident
    for fact in facts:
        if fact.version <= newest:
            continue
        decision = follow(present, fact, under)
        if decision is not None:
            decisions.append(decision)
            present = decision.incident if decision.incident.is_open else None
    return decisions


def _late(outages: list[Fact], facts: list[Fact], under: Circumstances, open_incident: Incident | None) -> list[Decision]:
    heard = under.service.heard
    decisions: list[Decision] = []
    for fact in outages:
        end = next((one for one in [*facts, heard] if one is not None and one.version > fact.version and one.status in OVER), None)
        if end is not None:
            begun = _opened(fact, under)
            decisions += [begun, _resolved(begun.incident, end, under)]
        elif open_incident is None and heard is not None and heard.status is Status.NO_DATA:
            begun = _opened(fact, under)
            decisions.append(begun)
            open_incident = begun.incident
    return decisions


def follow(open_incident: Incident | None, fact: Fact, under: Circumstances) -> Decision | None:
    """Return what a service's new status means for its incident, or None if nothing does."""
    match open_incident, fact.status:
        case None, Status.MAJOR_OUTAGE | Status.PARTIAL_OUTAGE if fact.alarms:
            return _opened(fact, under)
        case Incident() as incident, Status.OPERATIONAL | Status.EMPTY:
            return _resolved(incident, fact, under)
        case Incident() as incident, Status.MAJOR_OUTAGE | Status.PARTIAL_OUTAGE if (
            fact.alarms and RANK[under.policy.severity[fact.status]] > RANK[incident.severity]
        ):
            return _escalated(incident, fact, under)
    return None


def unwatched(incident: Incident, service: Service, *, at: datetime, now: datetime, removed: bool) -> Decision:
    """Return the end of an incident whose service was removed or deactivated: nobody will see it recover."""
    why = "was removed" if removed else "was deactivated"
    entry = _entry(incident, IncidentStatus.RESOLVED, f"{service.name} {why} and is no longer monitored. This incident is closed.", now)
    return resolved(incident, entry, at=at, last_version=service.heard.version if service.heard else None)


def _opened(fact: Fact, under: Circumstances) -> Decision:
    service, policy = under.service, under.policy
    severity = policy.severity[fact.status]
    incident = Incident(
        id=uuid5(INCIDENT_NAMESPACE, f"{service.id}/{fact.version}"),
        title=f"{service.name}: {WORDS[fact.status]}",
        severity=severity,
        priority=policy.priority[severity],
        affected_services=(service.id,),
        started_at=fact.since,
        created_by=SYSTEM,
        service_id=service.id,
        first_version=fact.version,
    )
    return opened(incident, message=f"We are investigating a {WORDS[fact.status]} of {service.name}.", now=under.now)


def _escalated(incident: Incident, fact: Fact, under: Circumstances) -> Decision:
    service, policy = under.service, under.policy
    severity = policy.severity[fact.status]
    priority = min(incident.priority, policy.priority[severity])
    title = f"{service.name}: {WORDS[fact.status]}"
    after = replace(incident, severity=severity, priority=priority, title=title, version=incident.version + 1)
    entry = _entry(incident, incident.status, f"{service.name} now has a {WORDS[fact.status]}.", under.now)
    return Decision(after, Step.UPDATED, entry)


def _resolved(incident: Incident, fact: Fact, under: Circumstances) -> Decision:
    name = under.service.name
    message = f"{name} works again." if fact.status is Status.OPERATIONAL else f"{name} is no longer monitored. This incident is closed."
    entry = _entry(incident, IncidentStatus.RESOLVED, message, under.now)
    return resolved(incident, entry, at=fact.since, last_version=fact.version)


def _entry(incident: Incident, status: IncidentStatus, message: str, now: datetime) -> Entry:
    return Entry(entry_id(incident.id, incident.version + 1), status, message, SYSTEM, now)
