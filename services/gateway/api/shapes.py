"""What each route takes and gives, for the reference of the API (reference.py): routes read bodies and write bytes themselves.

What the owners answer is told by their contracts; what is put together here has its form here. Nothing is validated by these forms when
a request is answered: tests hold them against the answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, create_model

from services.gateway.api.applying import Wanted
from services.gateway.api.calls import Calls
from services.gateway.api.contracts import NewExclusion, Promise
from services.gateway.api.history import NewCorrection, OtherRules, Revocation
from services.gateway.api.incidents import NewEntry, NewIncident
from services.gateway.api.maintenances import ChangedMaintenance, NewMaintenance
from services.gateway.api.session import SignIn
from services.gateway.live import projection
from shared.contracts.base import Contract, Timestamp
from shared.contracts.codes import Role, Status
from shared.contracts.commands import Kinds, Plan, Trial
from shared.contracts.history import (
    Audit,
    Corrections,
    DryRun,
    RecordedExclusion,
    Series,
    SlaContracts,
    SlaExclusions,
    SlaReport,
    SlaStandings,
    StatusHistory,
    Timeline,
)
from shared.contracts.incidents import Incident, IncidentUpdate
from shared.contracts.maintenance import Maintenance
from shared.contracts.services import ServiceDefinition
from shared.contracts.sla import Correction, SlaContract
from shared.contracts.status import Evidence, SystemStatus, UptimeDay

OWNED = frozenset({"version", "created_at", "updated_at"})
"""What of a definition is not for people to say."""


def _only(name: str, of: type[Contract], fields: set[str], *, base: type[Contract] = Contract, doc: str, **more: Any) -> type[Contract]:  # noqa: ANN401  # fields, as pydantic takes them
    """Return the form of some fields of a contract."""
    chosen: dict[str, Any] = {one: (info.annotation, info) for one, info in of.model_fields.items() if one in fields}
    return create_model(name, __base__=base, __doc__=doc, **chosen, **more)


class _StatusBeside(Contract):
    """The status beside a service, in one flat object."""

    status: Status
    status_word: str
    status_since: Timestamp | None
    status_detected_at: Timestamp | None
    status_version: int
    degraded: bool
    maintenance: UUID | None
    flapping: bool
    because_of: str | None = Field(description="The service because of which this one does not work: one that it depends on")


class ServiceWithStatus(ServiceDefinition, _StatusBeside):
    """A definition, its status, and why."""

    evidence: Evidence | None
    muted_by: str | None
    previous: Status | None
    previous_since: Timestamp | None


class ServicesWithStatus(Contract):
    """All services. `stale`: nothing was heard for a while; `as_of`: up to when everything is known."""

    stale: bool
    as_of: Timestamp | None
    services: tuple[ServiceWithStatus, ...]


_PUBLIC_ENTRY = _only("PublicIncidentUpdate", IncidentUpdate, projection.INCIDENT_UPDATE, doc="An entry that was written for customers.")
_entries: Any = tuple.__class_getitem__((_PUBLIC_ENTRY, ...))
PublicIncident = _only("PublicIncident", Incident, projection.INCIDENT, doc="An incident as everybody sees it.", updates=(_entries, ...))
PublicService = _only(
    "PublicService", ServiceDefinition, projection.SERVICE, base=_StatusBeside, doc="A service as everybody sees it, with its status."
)
PublicSystem = _only("PublicSystem", SystemStatus, projection.SYSTEM, doc="All services together, as everybody sees them.")
PublicMaintenance = _only("PublicMaintenance", Maintenance, projection.MAINTENANCE, doc="A maintenance window as everybody sees it.")


class PublicState(Contract):
    """Everything that everybody may see. `offset`: where the feed at /ws goes on from here."""

    offset: int
    stale: bool
    as_of: Timestamp | None
    system: PublicSystem | None  # type: ignore[valid-type]  # made by `_only`
    services: tuple[PublicService, ...]  # type: ignore[valid-type]
    incidents: tuple[PublicIncident, ...]  # type: ignore[valid-type]
    maintenances: tuple[PublicMaintenance, ...]  # type: ignore[valid-type]


class _Listed(Contract):
    """A list by its owner; while that does not answer, `complete` is false and it is what is in memory."""

    complete: bool
    stale: bool
    as_of: Timestamp | None


class IncidentList(_Listed):
    """Incidents, newest first."""

    incidents: tuple[Incident, ...]


class MaintenanceList(_Listed):
    """Maintenance windows, newest start first."""

    maintenances: tuple[Maintenance, ...]


class DayWithWord(UptimeDay):
    """A day's record."""

    status_word: str


class DailyRecords(Contract):
    """Daily records, oldest first, without gaps."""

    service_id: str
    uptime_percentage: float | None
    days: tuple[DayWithWord, ...]


class SignedIn(Contract):
    """Who is signed in."""

    username: str
    role: Role
    expires_at: Timestamp


class NewPushAddress(Contract):
    """The secret address of a push service, shown this once."""

    service_id: str
    token: str
    path: str


class CallsTaken(Contract):
    """Calls that were taken over."""

    batch_id: UUID
    accepted: int


class ApiReference(Contract):
    """An OpenAPI document."""

    openapi: str
    info: dict[str, Any]
    paths: dict[str, Any]
    components: dict[str, Any]


class _Written(BaseModel):
    model_config = ConfigDict(extra="forbid")


_WRITTEN: dict[str, Any] = {one: info.annotation for one, info in ServiceDefinition.model_fields.items() if one not in OWNED}
_NEEDED = ("id", "name", "kind", "endpoint_url")
_MORE: dict[str, Any] = {"assertions": (list[dict[str, Any]] | None, None), "options": (dict[str, Any] | None, None)}
NewService: type[BaseModel] = create_model(
    "NewService",
    __base__=_Written,
    __doc__="A definition as docs/monitors.md has it; the checker judges it. Times in milliseconds.",
    **{one: (kind, ...) if one in _NEEDED else (kind | None, None) for one, kind in _WRITTEN.items()} | _MORE,
)
ChangedService: type[BaseModel] = create_model(
    "ChangedService",
    __base__=_Written,
    __doc__="The fields of a definition that are to change.",
    **{one: (kind | None, None) for one, kind in _WRITTEN.items() if one != "id"} | _MORE,
)


@dataclass(frozen=True, slots=True)
class Shape:
    """What a route takes and gives; None: nothing. `files`: media types that it can give instead."""

    gives: type[BaseModel] | None = None
    takes: type[BaseModel] | None = None
    status: int = 200
    example: Mapping[str, Any] | None = None
    files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Span:
    starts_at: str = "2026-03-10T01:00:00Z"
    ends_at: str = "2026-03-10T02:00:00Z"

    def told(self, **more: Any) -> Mapping[str, Any]:  # noqa: ANN401  # JSON
        return MappingProxyType({"starts_at": self.starts_at, "ends_at": self.ends_at} | more)


_AT = _Span()
_V1, _SERVICE, _CONTRACT = "/api/v1", "/api/v1/services/{service_id}", "/api/v1/sla/contracts/{contract_id}"
_ORDERS: Mapping[str, Any] = {"id": "orders", "name": "Orders", "kind": "http", "endpoint_url": "https://orders.example.com/health"}
_GOLD = {"name": "Gold", "target": "99.95", "period": "month", "time_zone": "Europe/Berlin", "services": ["orders"]}
_WHY = {"reason": "The wrong hour was excluded"}
_PUSH = Shape(status=204)

SHAPES: Mapping[tuple[str, str], Shape] = {
    ("GET", f"{_V1}/status"): Shape(PublicState),
    ("GET", f"{_V1}/openapi.json"): Shape(ApiReference),
    ("POST", f"{_V1}/session"): Shape(takes=SignIn, status=204, example={"username": "ada", "password": "a long enough one"}),
    ("GET", f"{_V1}/session"): Shape(SignedIn),
    ("DELETE", f"{_V1}/session"): Shape(status=204),
    ("GET", f"{_V1}/services"): Shape(ServicesWithStatus),
    ("POST", f"{_V1}/services"): Shape(ServiceWithStatus, NewService, 201, _ORDERS),
    ("POST", f"{_V1}/services/apply"): Shape(Plan, Wanted, example={"definitions": [_ORDERS], "prune": False, "dry_run": True}),
    ("GET", f"{_V1}/kinds"): Shape(Kinds),
    ("POST", f"{_V1}/checks/try"): Shape(Trial, NewService, example=_ORDERS),
    ("GET", _SERVICE): Shape(ServiceWithStatus),
    ("PATCH", _SERVICE): Shape(ServiceWithStatus, ChangedService, example={"failure_threshold": 3}),
    ("DELETE", _SERVICE): Shape(status=204),
    ("GET", f"{_SERVICE}/uptime"): Shape(DailyRecords),
    ("POST", f"{_SERVICE}/push-token"): Shape(NewPushAddress),
    ("POST", f"{_SERVICE}/response-times"): Shape(CallsTaken, Calls, 202),
    ("GET", f"{_V1}/incidents"): Shape(IncidentList),
    ("POST", f"{_V1}/incidents"): Shape(
        Incident,
        NewIncident,
        201,
        {"title": "Orders are slow", "message": "We look into it.", "severity": "medium", "affected_services": ["orders"]},
    ),
    ("GET", f"{_V1}/incidents/{{incident_id}}"): Shape(Incident),
    ("POST", f"{_V1}/incidents/{{incident_id}}/updates"): Shape(
        Incident, NewEntry, 201, {"status": "identified", "message": "A disk is full."}
    ),
    ("GET", f"{_SERVICE}/uptime/audit"): Shape(Audit),
    ("GET", f"{_SERVICE}/timeline"): Shape(Timeline),
    ("GET", f"{_SERVICE}/status/history"): Shape(StatusHistory),
    ("GET", f"{_SERVICE}/response-times/series"): Shape(Series),
    ("POST", f"{_SERVICE}/dry-run"): Shape(
        DryRun, OtherRules, example={"from": "2026-01-01T00:00:00Z", "to": "2026-03-31T00:00:00Z", "failure_threshold": 5, "quorum": "all"}
    ),
    ("GET", f"{_SERVICE}/corrections"): Shape(Corrections),
    ("POST", f"{_SERVICE}/corrections"): Shape(Correction, NewCorrection, 201, _AT.told(state="up", reason="Our own network was down")),
    ("POST", f"{_V1}/corrections/{{correction_id}}/revoke"): Shape(Correction, Revocation, example=_WHY),
    ("GET", f"{_V1}/sla/contracts"): Shape(SlaContracts),
    ("GET", _CONTRACT): Shape(SlaContract),
    ("PUT", _CONTRACT): Shape(SlaContract, Promise, example=_GOLD),
    ("DELETE", _CONTRACT): Shape(status=204),
    ("GET", f"{_CONTRACT}/exclusions"): Shape(SlaExclusions),
    ("POST", f"{_CONTRACT}/exclusions"): Shape(SlaContract, NewExclusion, 201, _AT.told(reason="Power cut at the customer")),
    ("POST", f"{_CONTRACT}/exclusions/{{exclusion_id}}/revoke"): Shape(RecordedExclusion, Revocation, example=_WHY),
    ("GET", f"{_CONTRACT}/standing"): Shape(SlaStandings),
    ("GET", f"{_CONTRACT}/report"): Shape(SlaReport, files=("text/html", "application/pdf", "text/csv")),
    ("GET", f"{_V1}/maintenances"): Shape(MaintenanceList),
    ("POST", f"{_V1}/maintenances"): Shape(Maintenance, NewMaintenance, 201, _AT.told(title="New disks", services=["orders"])),
    ("PATCH", f"{_V1}/maintenances/{{maintenance_id}}"): Shape(Maintenance, ChangedMaintenance, example={"title": "New and larger disks"}),
    ("POST", f"{_V1}/maintenances/{{maintenance_id}}/end"): Shape(Maintenance),
} | {(method, f"{_V1}/push/{{token}}{more}"): _PUSH for method in ("GET", "HEAD", "POST") for more in ("", "/{signal}")}
