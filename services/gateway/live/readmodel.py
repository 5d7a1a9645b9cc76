"""What is so now, in memory: definitions, statuses, incidents, maintenance windows, the system. Events and the owners' answers move it.

Newest version wins, so events may come twice or out of order. An owner's answer is the truth of the moment it was asked, and so
replaces whatever did not change meanwhile, even by a lower version: an owner restored from a backup is right.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import UUID

from shared.contracts.codes import IncidentStatus, MaintenanceStatus
from shared.contracts.envelope import Event
from shared.contracts.incidents import Incident, IncidentOpenedV1, IncidentResolvedV1, IncidentUpdatedV1
from shared.contracts.maintenance import (
    Maintenance,
    MaintenanceEndedV1,
    MaintenanceScheduledV1,
    MaintenanceStartedV1,
    MaintenanceUpdatedV1,
)
from shared.contracts.services import ServiceDefinition, ServiceRegisteredV1, ServiceRemovedV1, ServiceUpdatedV1
from shared.contracts.status import ServiceStatus, ServiceStatusChangedV1, SystemStatus, SystemStatusChangedV1

RECENT_INCIDENTS = 100
"""How many resolved incidents are kept beside all open ones."""

K = TypeVar("K")
V = TypeVar("V", ServiceDefinition, ServiceStatus, Maintenance)


@dataclass(slots=True)
class Facts:
    """The state itself. Its values are immutable, so a copy of the dictionaries is a picture of a moment."""

    services: dict[str, ServiceDefinition] = field(default_factory=dict)
    removed: dict[str, int] = field(default_factory=dict)
    """Versions of services that were removed, so that an older event does not bring them back."""
    statuses: dict[str, ServiceStatus] = field(default_factory=dict)
    incidents: dict[UUID, Incident] = field(default_factory=dict)
    maintenances: dict[str, Maintenance] = field(default_factory=dict)
    """By id. Ended ones stay until their owner is asked again, so that an older event does not bring them back."""
    system: SystemStatus | None = None

    def picture(self) -> "Facts":
        """Return what is so now, for comparison later."""
        return Facts(
            dict(self.services), dict(self.removed), dict(self.statuses), dict(self.incidents), dict(self.maintenances), self.system
        )


@dataclass(frozen=True, slots=True)
class Answers:
    """What the owners said when they were asked for everything; None where one did not answer."""

    services: tuple[ServiceDefinition, ...] | None = None
    statuses: tuple[ServiceStatus, ...] | None = None
    system: SystemStatus | None = None
    incidents: tuple[Incident, ...] | None = None
    maintenances: tuple[Maintenance, ...] | None = None
    """Those that have not ended, and maybe some that have."""


class ReadModel:
    """The facts, and how they change. `revision` grows with every change."""

    def __init__(self) -> None:
        """Begin empty: `filled` becomes true with the first snapshot or the owners' first answers."""
        self.facts = Facts()
        self.revision = 0
        self.filled = False

    def apply(self, event: Event[Any]) -> bool:
        """Take an event in; say whether anything changed by it. Unknown kinds change nothing."""
        match event.data:
            case ServiceRegisteredV1(service=service) | ServiceUpdatedV1(service=service):
                changed = self._define(service)
            case ServiceRemovedV1(service=service):
                changed = self._remove(service)
            case ServiceStatusChangedV1(status=status):
                changed = _newer(self.facts.statuses, status.service_id, status)
            case SystemStatusChangedV1(system=system):
                changed = self.facts.system is None or system.version > self.facts.system.version
                self.facts.system = system if changed else self.facts.system
            case IncidentOpenedV1(incident=incident) | IncidentUpdatedV1(incident=incident) | IncidentResolvedV1(incident=incident):
                changed = self._incident(incident)
            case (
                MaintenanceScheduledV1(maintenance=one)
                | MaintenanceUpdatedV1(maintenance=one)
                | MaintenanceStartedV1(maintenance=one)
                | MaintenanceEndedV1(maintenance=one)
            ):
                changed = _newer(self.facts.maintenances, str(one.id), one)
            case _:
                changed = False
        self.revision += changed
        return changed

    def take_definition(self, service: ServiceDefinition) -> None:
        """Take in what the checker answered to a command, so that the asker reads its own write here at once."""
        self.revision += self._define(service)

    def take_incident(self, incident: Incident) -> None:
        """Take in what the owner answered to a command, likewise."""
        self.revision += self._incident(incident)

    def take_maintenance(self, one: Maintenance) -> None:
        """Take in what the owner answered to a command, likewise."""
        self.revision += _newer(self.facts.maintenances, str(one.id), one)

    def take_removal(self, service_id: str) -> None:
        """Take in that the checker removed a service. Versions grow by one, so the event that follows has the next one."""
        known = self.facts.services.get(service_id)
        if known is not None:
            self.revision += self._remove(known.model_copy(update={"version": known.version + 1}))

    def mend(self, answers: Answers, *, before: Facts) -> bool:
        """Take in the owners' answers, asked when the facts were `before`. Say whether something went backwards or away.

        Then clients that saw the old state must begin again, because no event tells them.
        """
        now = self.facts
        old = now.picture()
        rewound = False
        if answers.services is not None:
            asked = {service.id: service for service in answers.services if not _removed_meanwhile(service, now, before)}
            now.services, back = _settle(now.services, before.services, asked)
            now.removed = {key: version for key, version in now.removed.items() if key not in now.services}
            rewound |= back
        if answers.statuses is not None:
            now.statuses, back = _settle(now.statuses, before.statuses, {status.service_id: status for status in answers.statuses})
            rewound |= back
        if answers.system is not None and (
            now.system is before.system or now.system is None or answers.system.version > now.system.version
        ):
            rewound |= now.system is not None and answers.system.version < now.system.version
            now.system = answers.system if answers.system != now.system else now.system
        if answers.incidents is not None:
            rewound |= self._mend_incidents(answers.incidents, before)
        if answers.maintenances is not None:
            rewound |= self._mend_maintenances(answers.maintenances, before)
        self.revision += now != old
        return rewound

    def _define(self, service: ServiceDefinition) -> bool:
        if self.facts.removed.get(service.id, -1) >= service.version:
            return False
        changed = _newer(self.facts.services, service.id, service)
        if changed:
            self.facts.removed.pop(service.id, None)
        return changed

    def _remove(self, service: ServiceDefinition) -> bool:
        known = self.facts.services.get(service.id)
        if (known is not None and known.version > service.version) or self.facts.removed.get(service.id, -1) >= service.version:
            return False
        self.facts.removed[service.id] = service.version
        self.facts.services.pop(service.id, None)
        self.facts.statuses.pop(service.id, None)
        return True

    def _incident(self, incident: Incident) -> bool:
        known = self.facts.incidents.get(incident.id)
        merged = incident if known is None else _joined(known, incident)
        if merged == known:
            return False
        self.facts.incidents[incident.id] = merged
        self._forget_old_incidents()
        return True

    def _mend_incidents(self, answers: Iterable[Incident], before: Facts) -> bool:
        incidents = self.facts.incidents
        asked = {incident.id: incident for incident in answers}
        rewound = False
        for key, known in list(incidents.items()):
            if key not in asked and is_open(known) and before.incidents.get(key) is known:
                del incidents[key]
                rewound = True
        for key, answer in asked.items():
            known_now = incidents.get(key)
            if known_now is not None and before.incidents.get(key) is known_now and answer.version < known_now.version:
                incidents[key] = answer
                rewound = True
            else:
                self._incident(answer)
        self._forget_old_incidents()
        return rewound

    def _mend_maintenances(self, answers: Iterable[Maintenance], before: Facts) -> bool:
        known, rewound = self.facts.maintenances, False
        asked = {str(one.id): one for one in answers}
        for key, one in list(known.items()):
            if key not in asked and before.maintenances.get(key) is one:
                del known[key]
                rewound |= is_ahead(one)
        for key, answer in asked.items():
            have = known.get(key)
            if have is not None and have is before.maintenances.get(key) and answer.version < have.version:
                known[key] = answer
                rewound = True
            else:
                _newer(known, key, answer)
        return rewound

    def _forget_old_incidents(self) -> None:
        resolved = [incident for incident in self.facts.incidents.values() if not is_open(incident)]
        for incident in sorted(resolved, key=lambda one: one.started_at, reverse=True)[RECENT_INCIDENTS:]:
            del self.facts.incidents[incident.id]

    def incidents_newest_first(self) -> list[Incident]:
        """Return the open incidents and the newest resolved ones."""
        return sorted(self.facts.incidents.values(), key=lambda one: (one.started_at, str(one.id)), reverse=True)

    def maintenances_by_start(self) -> list[Maintenance]:
        """Return the maintenance windows that are known, the one that begins first first."""
        return sorted(self.facts.maintenances.values(), key=lambda one: (one.starts_at, str(one.id)))


def is_ahead(one: Maintenance) -> bool:
    """Say whether a maintenance window goes on or is still to come."""
    return one.status in {MaintenanceStatus.SCHEDULED, MaintenanceStatus.IN_PROGRESS}


def is_open(incident: Incident) -> bool:
    """Say whether an incident goes on."""
    return incident.status is not IncidentStatus.RESOLVED


def _newer(known: dict[str, V], key: str, value: V) -> bool:
    have = known.get(key)
    if have is not None and have.version >= value.version:
        return False
    known[key] = value
    return True


def _joined(known: Incident, other: Incident) -> Incident:
    """Return the newer of two pictures of an incident, with the timeline entries of both: events carry only the new entry."""
    newer, older = (other, known) if other.version > known.version else (known, other)
    entries = {entry.id: entry for entry in (*older.updates, *newer.updates)}
    timeline = tuple(sorted(entries.values(), key=lambda entry: (entry.created_at, str(entry.id))))
    return newer.model_copy(update={"updates": timeline})


def _removed_meanwhile(service: ServiceDefinition, now: Facts, before: Facts) -> bool:
    version = now.removed.get(service.id)
    return version is not None and version != before.removed.get(service.id) and version >= service.version


def _settle(now: dict[str, V], before: dict[str, V], asked: dict[str, V]) -> tuple[dict[str, V], bool]:
    """Return the owner's answer, except where the facts changed since it was asked; and whether something went back or away."""
    pick: Callable[[V, V], V] = lambda a, b: a if a.version >= b.version else b  # noqa: E731  # generic in V
    result: dict[str, V] = {}
    rewound = False
    for key, answer in asked.items():
        known = now.get(key)
        if known is None:
            result[key] = answer
        elif known is before.get(key):
            rewound |= answer.version < known.version
            result[key] = known if known == answer else answer
        else:
            result[key] = pick(known, answer)
    for key, known in now.items():
        if key not in asked:
            if known is before.get(key):
                rewound = True
            else:
                result[key] = known
    return result, rewound
