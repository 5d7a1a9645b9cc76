"""Commands and deep reads: what a service may be asked over RabbitMQ, and what it answers."""

from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from typing import Any, Generic, Literal, TypeVar
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Contract, Timestamp
from shared.contracts.checks import CheckResult
from shared.contracts.codes import IncidentStatus, Priority, Severity
from shared.contracts.history import (
    Audit,
    AuditQuery,
    CorrectionDraft,
    CorrectionRef,
    Corrections,
    DryRun,
    DryRunQuery,
    MaintenanceChange,
    MaintenanceDraft,
    MaintenanceQuery,
    Maintenances,
    Period,
    RecordedExclusion,
    Series,
    SeriesQuery,
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
from shared.contracts.incidents import Incident
from shared.contracts.maintenance import Maintenance
from shared.contracts.services import Assertion, ServiceDefinition
from shared.contracts.sla import Correction, SlaContract
from shared.contracts.status import ServiceStatus, SystemStatus, UptimeDay

Params = TypeVar("Params", bound=Contract)
Result = TypeVar("Result", bound=Contract)


@dataclass(frozen=True, slots=True)
class Method(Generic[Params, Result]):
    """One question: which queue answers it, what it takes and what it gives back."""

    queue: str
    name: str
    params: type[Params]
    result: type[Result]


class FieldProblem(Contract):
    """One field that was refused, and why."""

    field: str
    reason: str


class Problem(Contract):
    """Why something was refused: RFC 9457, section 3, with the fields at fault as an extension."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    errors: tuple[FieldProblem, ...] = ()


class Nothing(Contract):
    """No parameters, or nothing to say."""


class ServiceDraft(Contract):
    """What a person writes to create a service, unvalidated: the checker judges it. Times in milliseconds."""

    definition: dict[str, Any]
    actor: str


class ServicePatch(Contract):
    """What a person writes to change a service: only the fields to change."""

    id: str
    changes: dict[str, Any]
    actor: str


class ServiceRef(Contract):
    """One service, by id."""

    id: str
    actor: str = ""


class Services(Contract):
    """All services that are not removed, by id."""

    services: tuple[ServiceDefinition, ...]


class ServiceSet(Contract):
    """Definitions as code: what is to exist, unvalidated. All of it is applied, or nothing."""

    definitions: tuple[dict[str, Any], ...]
    prune: bool = Field(default=False, description="Remove every service that is not among them")
    dry_run: bool = Field(default=False, description="Only say what would be done")
    actor: str


class PlannedAction(StrEnum):
    """What applying does to one service."""

    CREATE = "create"
    CHANGE = "change"
    REMOVE = "remove"
    UNCHANGED = "unchanged"


class FieldChange(Contract):
    """One field that changes. Secrets are masked."""

    field: str
    before: Any = None
    after: Any = None


class PlannedChange(Contract):
    """What applying does to one service, and by which fields."""

    id: str
    action: PlannedAction
    fields: tuple[FieldChange, ...] = ()


class Plan(Contract):
    """What was done, or with `dry_run` would be done, to every service concerned, by id."""

    changes: tuple[PlannedChange, ...]
    applied: bool


class AssertionVerdict(Contract):
    """How one assertion fared in a trial."""

    assertion: Assertion
    holds: bool
    found: str


class Trial(Contract):
    """What a check that was run once found: the result as it would be told, and every assertion's verdict."""

    result: CheckResult
    assertions: tuple[AssertionVerdict, ...] = ()


class KindDescription(Contract):
    """A kind of check, described for people, forms and editors."""

    name: str
    title: str
    endpoint: str = Field(description="The form of the address, as in tcp://host:port")
    options: dict[str, Any] = Field(description="JSON Schema (2020-12) of the options")
    sources: tuple[str, ...] = Field(description="What its assertions may look at")


class Kinds(Contract):
    """Every kind of check."""

    kinds: tuple[KindDescription, ...]


class PushSignal(Contract):
    """What a watched job called its secret address with."""

    id: UUID = Field(description="Chosen by the gateway, so that telling twice counts once")
    token: str
    what: Literal["start", "success", "fail"]
    exit_code: int | None = None
    log: str = ""
    duration_ms: float | None = None
    at: Timestamp


class PushToken(Contract):
    """The secret of a push service, shown once; only its hash is kept."""

    service_id: str
    token: str


class Overview(Contract):
    """The newest status of every service and of the system."""

    statuses: tuple[ServiceStatus, ...]
    system: SystemStatus


class UptimeQuery(Contract):
    """The daily records of one service: `days` days that end with `until`, inclusive; null: today, in the aggregator's time zone."""

    service_id: str
    days: int = Field(ge=1, le=366)
    until: date | None = None


class Uptime(Contract):
    """Daily records, oldest first, without gaps: a day before the service existed is `e`, one without data `nd`."""

    service_id: str
    uptime_percentage: float | None
    days: tuple[UptimeDay, ...]


class IncidentQuery(Contract):
    """A page of incidents, newest first."""

    open_only: bool = False
    service_id: str | None = None
    before: Timestamp | None = None
    limit: int = Field(default=50, ge=1, le=500)


class Incidents(Contract):
    """Incidents, newest first, each with its timeline."""

    incidents: tuple[Incident, ...]


class IncidentRef(Contract):
    """One incident, by id."""

    id: UUID


class IncidentDraft(Contract):
    """What a reporter writes to open an incident by hand."""

    id: UUID = Field(description="Chosen by the asker, so that asking twice opens one")
    title: str
    message: str
    severity: Severity
    priority: Priority | None = Field(default=None, description="Null: what follows from the severity, as incidents decides")
    affected_services: tuple[str, ...]
    actor: str


class IncidentEntry(Contract):
    """What a reporter adds to an incident's timeline."""

    entry_id: UUID = Field(description="Chosen by the asker, so that asking twice adds one")
    incident_id: UUID
    status: IncidentStatus
    message: str
    is_customer_visible: bool = True
    actor: str


CHECKER_RPC = "checker.rpc"
AGGREGATOR_RPC = "aggregator.rpc"
INCIDENTS_RPC = "incidents.rpc"

SERVICES_LIST = Method(CHECKER_RPC, "services.list", Nothing, Services)
SERVICES_GET = Method(CHECKER_RPC, "services.get", ServiceRef, ServiceDefinition)
SERVICES_CREATE = Method(CHECKER_RPC, "services.create", ServiceDraft, ServiceDefinition)
SERVICES_CHANGE = Method(CHECKER_RPC, "services.change", ServicePatch, ServiceDefinition)
SERVICES_APPLY = Method(CHECKER_RPC, "services.apply", ServiceSet, Plan)
CHECKS_TRY = Method(CHECKER_RPC, "checks.try", ServiceDraft, Trial)
KINDS_DESCRIBE = Method(CHECKER_RPC, "kinds.describe", Nothing, Kinds)
PUSH_SIGNAL = Method(CHECKER_RPC, "push.signal", PushSignal, Nothing)
PUSH_RENEW_TOKEN = Method(CHECKER_RPC, "push.renew_token", ServiceRef, PushToken)
SERVICES_REMOVE = Method(CHECKER_RPC, "services.remove", ServiceRef, Nothing)
STATUS_OVERVIEW = Method(AGGREGATOR_RPC, "status.overview", Nothing, Overview)
STATUS_HISTORY = Method(AGGREGATOR_RPC, "status.history", Period, StatusHistory)
UPTIME_READ = Method(AGGREGATOR_RPC, "uptime.read", UptimeQuery, Uptime)
INCIDENTS_LIST = Method(INCIDENTS_RPC, "incidents.list", IncidentQuery, Incidents)
INCIDENTS_GET = Method(INCIDENTS_RPC, "incidents.get", IncidentRef, Incident)
INCIDENTS_OPEN = Method(INCIDENTS_RPC, "incidents.open", IncidentDraft, Incident)
INCIDENTS_UPDATE = Method(INCIDENTS_RPC, "incidents.update", IncidentEntry, Incident)
UPTIME_AUDIT = Method(AGGREGATOR_RPC, "uptime.audit", AuditQuery, Audit)
TIMELINE_READ = Method(AGGREGATOR_RPC, "timeline.read", Period, Timeline)
TIMELINE_DRY_RUN = Method(AGGREGATOR_RPC, "timeline.dry_run", DryRunQuery, DryRun)
CORRECTIONS_MAKE = Method(AGGREGATOR_RPC, "corrections.make", CorrectionDraft, Correction)
CORRECTIONS_REVOKE = Method(AGGREGATOR_RPC, "corrections.revoke", CorrectionRef, Correction)
CORRECTIONS_LIST = Method(AGGREGATOR_RPC, "corrections.list", ServiceRef, Corrections)
SERIES_READ = Method(AGGREGATOR_RPC, "series.read", SeriesQuery, Series)
SLA_LIST = Method(AGGREGATOR_RPC, "sla.list", SlaContractsQuery, SlaContracts)
SLA_READ = Method(AGGREGATOR_RPC, "sla.read", SlaContractRef, SlaContract)
SLA_PUT = Method(AGGREGATOR_RPC, "sla.put", SlaContractDraft, SlaContract)
SLA_REMOVE = Method(AGGREGATOR_RPC, "sla.remove", SlaContractRef, Nothing)
SLA_EXCLUDE = Method(AGGREGATOR_RPC, "sla.exclude", SlaExclusionDraft, SlaContract)
SLA_EXCLUSIONS = Method(AGGREGATOR_RPC, "sla.exclusions", SlaContractRef, SlaExclusions)
SLA_EXCLUSION_REVOKE = Method(AGGREGATOR_RPC, "sla.revoke_exclusion", SlaExclusionRef, RecordedExclusion)
SLA_STANDING = Method(AGGREGATOR_RPC, "sla.standing", SlaContractRef, SlaStandings)
SLA_REPORT = Method(AGGREGATOR_RPC, "sla.report", SlaReportQuery, SlaReport)
MAINTENANCE_LIST = Method(INCIDENTS_RPC, "maintenance.list", MaintenanceQuery, Maintenances)
MAINTENANCE_SCHEDULE = Method(INCIDENTS_RPC, "maintenance.schedule", MaintenanceDraft, Maintenance)
MAINTENANCE_CHANGE = Method(INCIDENTS_RPC, "maintenance.change", MaintenanceChange, Maintenance)
