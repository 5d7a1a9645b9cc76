"""What the public may see, by name. A field that is not listed here does not leave: no address, option, error text or person.

Applied once per event, for all clients together.
"""

from collections.abc import Callable, Mapping
from typing import Any

from shared.contracts.codes import Status
from shared.contracts.envelope import Event, Payload
from shared.contracts.incidents import Incident, IncidentOpenedV1, IncidentResolvedV1, IncidentUpdatedV1
from shared.contracts.maintenance import Maintenance, MaintenanceEndedV1, MaintenanceScheduledV1, MaintenanceStartedV1, MaintenanceUpdatedV1
from shared.contracts.services import ServiceDefinition, ServiceRegisteredV1, ServiceRemovedV1, ServiceUpdatedV1
from shared.contracts.status import ServiceStatus, ServiceStatusChangedV1, SystemStatus, SystemStatusChangedV1

SERVICE = {"id", "name", "display_name", "display_name_ko", "description", "is_active", "check_interval", "version"}
STATUS = {"service_id", "status", "since", "detected_at", "previous", "previous_since", "degraded", "maintenance", "flapping", "version"}
SYSTEM = {
    "overall_status",
    "operational_services",
    "total_services",
    "active_incidents",
    "last_incident_at",
    "message",
    "updated_at",
    "version",
}
INCIDENT = {
    "id",
    "title",
    "status",
    "severity",
    "affected_services",
    "started_at",
    "identified_at",
    "resolved_at",
    "duration_minutes",
    "impact_description",
    "version",
}
MAINTENANCE = {"id", "title", "description", "services", "status", "starts_at", "ends_at", "version"}
INCIDENT_UPDATE = {"id", "status", "message", "created_at"}
ENVELOPE = ("specversion", "id", "source", "type", "subject", "time", "datacontenttype")
DEGRADED_WORD = "degraded"
DEPENDENCY = "dependency"

Shape = dict[str, Any]


def public_service(service: ServiceDefinition) -> Shape:
    """Return what the public sees of a definition."""
    return service.model_dump(mode="json", include=SERVICE)


def public_status(status: ServiceStatus) -> Shape:
    """Return what the public sees of a status: the verdict and its times, not the evidence, and the service that is to blame for it."""
    return status.model_dump(mode="json", include=STATUS) | {"because_of": because_of(status)}


def because_of(status: ServiceStatus) -> str | None:
    """Return the service because of which a status alerts nobody: one that it depends on. None where that is not so."""
    reason, _, service_id = (status.muted_by or "").partition(":")
    return service_id if reason == DEPENDENCY else None


def public_system(system: SystemStatus) -> Shape:
    """Return what the public sees of the whole."""
    return system.model_dump(mode="json", include=SYSTEM)


def public_incident(incident: Incident) -> Shape:
    """Return what the public sees of an incident: of its timeline only what was written for customers."""
    shape = incident.model_dump(mode="json", include=INCIDENT)
    shape["updates"] = [entry.model_dump(mode="json", include=INCIDENT_UPDATE) for entry in incident.updates if entry.is_customer_visible]
    return shape


def public_maintenance(one: Maintenance) -> Shape:
    """Return what the public sees of a maintenance window: not who announced it."""
    return one.model_dump(mode="json", include=MAINTENANCE)


def service_with_status(service: ServiceDefinition, status: ServiceStatus | None) -> Shape:
    """Return a service and its status in one flat object, with the word beside the code. Degraded is a level of its own under `po`."""
    code = status.status if status else without_status(service)
    shape = None if status is None else public_status(status)
    return public_service(service) | {
        "status": code,
        "status_word": DEGRADED_WORD if status and status.degraded else code.word,
        "status_since": shape["since"] if shape else None,
        "status_detected_at": shape["detected_at"] if shape else None,
        "status_version": status.version if status else 0,
        "degraded": bool(status and status.degraded),
        "maintenance": shape["maintenance"] if shape else None,
        "flapping": bool(status and status.flapping),
        "because_of": shape["because_of"] if shape else None,
    }


def without_status(service: ServiceDefinition) -> Status:
    """Return what can be said of a service that nothing was concluded about yet."""
    return Status.NO_DATA if service.is_active else Status.EMPTY


def _of_service(data: Any) -> Shape:  # noqa: ANN401  # one of the payloads below
    return {"service": public_service(data.service)}


def _of_removed(data: Any) -> Shape:  # noqa: ANN401
    removed: Shape = data.model_dump(mode="json", include={"removed_at"})
    return {"service": public_service(data.service)} | removed


def _of_status(data: Any) -> Shape:  # noqa: ANN401
    return {"status": public_status(data.status)}


def _of_system(data: Any) -> Shape:  # noqa: ANN401
    return {"system": public_system(data.system)}


def _of_incident(data: Any) -> Shape:  # noqa: ANN401
    return {"incident": public_incident(data.incident)}


def _of_maintenance(data: Any) -> Shape:  # noqa: ANN401
    return {"maintenance": public_maintenance(data.maintenance)}


PROJECTIONS: Mapping[type[Payload], Callable[[Any], Shape]] = {
    ServiceRegisteredV1: _of_service,
    ServiceUpdatedV1: _of_service,
    ServiceRemovedV1: _of_removed,
    ServiceStatusChangedV1: _of_status,
    SystemStatusChangedV1: _of_system,
    IncidentOpenedV1: _of_incident,
    IncidentUpdatedV1: _of_incident,
    IncidentResolvedV1: _of_incident,
    MaintenanceScheduledV1: _of_maintenance,
    MaintenanceUpdatedV1: _of_maintenance,
    MaintenanceStartedV1: _of_maintenance,
    MaintenanceEndedV1: _of_maintenance,
}
"""An event type that is not here is not public."""


def public_event(event: Event[Any]) -> Shape | None:
    """Return an event as the public sees it, still a CloudEvent, or None if it is not public."""
    project = PROJECTIONS.get(type(event.data))
    if project is None:
        return None
    return event.model_dump(mode="json", include=set(ENVELOPE)) | {"data": project(event.data)}
