"""An incident, and the steps that it can take. Each gives the incident's next version and the timeline entry that says why.

By hand an incident goes forward (investigating → identified → monitoring → resolved, leaving out what does not apply), stays where it is,
or goes back from monitoring when a fix did not hold. A resolved one stays as it is.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID, uuid5

from shared.contracts.codes import IncidentStatus, Priority, Severity

ALLOWED: dict[IncidentStatus, frozenset[IncidentStatus]] = {
    IncidentStatus.INVESTIGATING: frozenset(IncidentStatus),
    IncidentStatus.IDENTIFIED: frozenset({IncidentStatus.IDENTIFIED, IncidentStatus.MONITORING, IncidentStatus.RESOLVED}),
    IncidentStatus.MONITORING: frozenset(IncidentStatus),
    IncidentStatus.RESOLVED: frozenset(),
}


class NotAllowed(ValueError):  # noqa: N818  # names the fact
    """The incident cannot take this step from where it is."""


class Step(StrEnum):
    """What happened to an incident."""

    OPENED = "opened"
    UPDATED = "updated"
    RESOLVED = "resolved"


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a timeline. `message` is Markdown."""

    id: UUID
    status: IncidentStatus
    message: str
    created_by: str
    created_at: datetime
    is_customer_visible: bool = True


@dataclass(frozen=True, slots=True)
class Incident:
    """An incident as it is at `version`. An automatic one follows `service_id` and covers its statuses from `first_version` on."""

    id: UUID
    title: str
    severity: Severity
    priority: Priority
    affected_services: tuple[str, ...]
    started_at: datetime
    created_by: str
    status: IncidentStatus = IncidentStatus.INVESTIGATING
    version: int = 1
    description: str = ""
    identified_at: datetime | None = None
    resolved_at: datetime | None = None
    duration_minutes: int | None = None
    impact_description: str = ""
    root_cause: str = ""
    resolution_notes: str = ""
    resolved_by: str | None = None
    service_id: str | None = None
    first_version: int | None = None
    last_version: int | None = None

    @property
    def is_open(self) -> bool:
        """Whether it goes on."""
        return self.status is not IncidentStatus.RESOLVED


@dataclass(frozen=True, slots=True)
class Decision:
    """What follows from a fact: the incident as it now is, the step that led there, and what the timeline says of it."""

    incident: Incident
    step: Step
    entry: Entry


def entry_id(incident_id: UUID, version: int) -> UUID:
    """Return the id of the entry that an automatic step to `version` writes: the same for everybody who derives it."""
    return uuid5(incident_id, str(version))


def opened(incident: Incident, *, message: str, now: datetime) -> Decision:
    """Return a new incident with the first entry of its timeline.

    It starts at a whole millisecond, as it is told: whoever goes on from there would miss what began in the rest of it.
    """
    at = incident.started_at
    incident = replace(incident, started_at=at.replace(microsecond=at.microsecond // 1000 * 1000))
    entry = Entry(entry_id(incident.id, 1), incident.status, message, incident.created_by, now)
    return Decision(incident, Step.OPENED, entry)


def advanced(incident: Incident, entry: Entry, *, last_version: int | None = None) -> Decision:
    """Return the incident after an entry was added by hand. Raises `NotAllowed`. `last_version`: the service's newest status."""
    if entry.status not in ALLOWED[incident.status]:
        msg = f"an incident that is {incident.status} cannot become {entry.status}"
        raise NotAllowed(msg)
    if entry.status is IncidentStatus.RESOLVED:
        return resolved(incident, entry, at=entry.created_at, last_version=last_version)
    identified_at = incident.identified_at
    if entry.status is not IncidentStatus.INVESTIGATING and identified_at is None:
        identified_at = entry.created_at
    after = replace(incident, status=entry.status, identified_at=identified_at, version=incident.version + 1)
    return Decision(after, Step.UPDATED, entry)


def resolved(incident: Incident, entry: Entry, *, at: datetime, last_version: int | None) -> Decision:
    """Return the incident as it ended. Whole minutes count; it never ends before it began."""
    end = max(at, incident.started_at)
    after = replace(
        incident,
        status=IncidentStatus.RESOLVED,
        resolved_at=end,
        duration_minutes=(end - incident.started_at) // timedelta(minutes=1),
        resolution_notes=entry.message,
        resolved_by=entry.created_by,
        version=incident.version + 1,
        last_version=None if incident.first_version is None else max(incident.first_version, last_version or 0),
    )
    return Decision(after, Step.RESOLVED, entry)
