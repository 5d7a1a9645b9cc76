"""Deep reads and commands about the past: timelines, audits, corrections, series, SLA contracts, reports, maintenance windows."""

from datetime import date
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Contract, Timestamp
from shared.contracts.codes import Status, TimelineState
from shared.contracts.maintenance import Maintenance
from shared.contracts.sla import Correction, SlaContract, SlaExclusion, SlaStanding, SlaWindow, StateInterval
from shared.contracts.status import Evidence


class Period(Contract):
    """One service over a time: from `starts_at` up to, and without, `ends_at`."""

    service_id: str
    starts_at: Timestamp
    ends_at: Timestamp


class AuditQuery(Contract):
    """What a number rests on. `contract_id`: by that contract's accounting and exclusions, otherwise by the default one."""

    service_id: str
    starts_at: Timestamp
    ends_at: Timestamp
    contract_id: str | None = None
    as_of: Timestamp | None = Field(default=None, description="As it was published then; null: as it is known now")


class Audit(Contract):
    """Everything that an uptime follows from.

    `digest`: SHA-256 (hex) over the canonical JSON of all other fields but `computed_at` and `settled`.
    """

    service_id: str
    starts_at: Timestamp
    ends_at: Timestamp
    as_of: Timestamp | None
    contract: SlaContract | None
    partial_share: str
    count_maintenance: bool
    count_unknown: bool
    intervals: tuple[StateInterval, ...]
    measured: tuple[StateInterval, ...] = Field(description="As measured, without corrections")
    corrections: tuple[Correction, ...]
    maintenances: tuple[Maintenance, ...]
    exclusions: tuple[SlaExclusion, ...]
    uptime_percentage: float | None
    checks_percentage: float | None = Field(description="By checks, as they were measured; null too `as_of` a moment, as the counts are")
    total_checks: int | None
    successful_checks: int | None
    failed_checks: int | None
    counted_minutes: float
    downtime_minutes: float
    formula_version: int
    digest: str
    settled: bool = Field(default=True, description="False: something of this time waits to be computed, and may change the numbers")
    computed_at: Timestamp


class CorrectionDraft(Contract):
    """What an admin reclassifies, and why."""

    id: UUID = Field(description="Chosen by the asker, so that asking twice makes one")
    service_id: str
    starts_at: Timestamp
    ends_at: Timestamp
    state: TimelineState
    reason: str
    actor: str


class CorrectionRef(Contract):
    """One correction, to be revoked: it stays readable, and no longer holds."""

    id: UUID
    actor: str
    reason: str = Field(default="", description="Empty: asked by a version that asked for none")


class Corrections(Contract):
    """The corrections of a service, newest first, revoked ones too."""

    corrections: tuple[Correction, ...]


class Timeline(Contract):
    """A service's states over a time, without gaps."""

    service_id: str
    intervals: tuple[StateInterval, ...]


class StatusInterval(Contract):
    """One version of a service's status as it was told, and why. One that differs only in whom it alerts may have no length."""

    version: int
    status: Status
    started_at: Timestamp = Field(description="The first check that said so, not the one that confirmed it")
    ended_at: Timestamp | None = Field(description="Null: it is the present one")
    detected_at: Timestamp = Field(description="When it was concluded and published")
    degraded: bool
    maintenance: UUID | None
    flapping: bool
    muted_by: str | None
    evidence: Evidence


class StatusHistory(Contract):
    """The statuses of a service that touch a time, oldest first, uncut."""

    service_id: str
    intervals: tuple[StatusInterval, ...]


class DryRunQuery(Contract):
    """Other rules on stored results. Null: as the definition has it."""

    service_id: str
    starts_at: Timestamp
    ends_at: Timestamp
    failure_threshold: int | None = Field(default=None, ge=1, le=10)
    recovery_threshold: int | None = Field(default=None, ge=1, le=10)
    quorum: str | None = None
    regions: tuple[str, ...] | None = Field(default=None, description="Only these count; empty: all that were heard")
    degraded_after_ms: int | None = Field(default=None, ge=1, description="Slower answers are degraded, whatever held when they came")


class DryRun(Contract):
    """What these rules would have made of the time, beside what was."""

    service_id: str
    would_be: tuple[StateInterval, ...]
    was: tuple[StateInterval, ...]
    would_be_uptime_percentage: float | None
    was_uptime_percentage: float | None


class SeriesQuery(Contract):
    """Response times over a time. At most 500 points: the resolution follows from the length."""

    service_id: str
    starts_at: Timestamp
    ends_at: Timestamp
    region: str | None = None
    points: int = Field(default=200, ge=1, le=500)


class SeriesPoint(Contract):
    """One stretch of a series. Percentiles in milliseconds, of successful checks, each within 1 %."""

    starts_at: Timestamp
    total: int
    failed: int
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    avg: float | None = None
    min: float | None = None
    max: float | None = None


class Series(Contract):
    """A series, and the whole of the time merged into one."""

    service_id: str
    resolution_s: int
    points: tuple[SeriesPoint, ...]
    whole: SeriesPoint


class SlaContractDraft(Contract):
    """A contract to be created or replaced; exclusions are added and revoked on their own."""

    contract: SlaContract
    actor: str


class SlaContractRef(Contract):
    """One contract."""

    id: str
    actor: str = ""


class SlaExclusionDraft(Contract):
    """Time that a contract is not to count."""

    contract_id: str
    id: UUID = Field(description="Chosen by the asker, so that asking twice excludes once")
    starts_at: Timestamp
    ends_at: Timestamp
    reason: str
    actor: str


class SlaExclusionRef(Contract):
    """One exclusion of a contract, to be revoked: it stays readable, and no longer holds."""

    contract_id: str
    id: UUID
    reason: str
    actor: str


class RecordedExclusion(SlaExclusion):
    """An exclusion, and who took it back, when and why; null: it holds."""

    revoked_by: str | None = None
    revoked_at: Timestamp | None = None
    revoked_reason: str | None = None


class SlaExclusions(Contract):
    """The exclusions of a contract, newest first, revoked ones too."""

    exclusions: tuple[RecordedExclusion, ...]


class SlaContractsQuery(Contract):
    """Contracts whose id comes after one, by id."""

    after: str = ""
    limit: int = Field(default=100, ge=1, le=500)


class SlaContracts(Contract):
    """Contracts by id; `next`: ask for those after this one, null: there are no more."""

    contracts: tuple[SlaContract, ...]
    next: str | None = None


class SlaStandings(Contract):
    """How a contract stands in its present window, service by service; `worst` names the one that it is told by."""

    contract: SlaContract
    window: SlaWindow
    standings: tuple[SlaStanding, ...]
    worst: str | None
    settled: bool = Field(default=True, description="False: something of this window waits to be computed, and may change the numbers")


class SlaReportQuery(Contract):
    """One window of a contract, by its first day in the contract's zone; without it, the last one that ended."""

    contract_id: str
    first_day: date | None = None


class SlaReport(Contract):
    """What a report shows: standing and audit of every service, its outages, and one digest over all audits' digests.

    `contract` of the audits is null: it is told once, beside them. Their digests are of them with it.
    """

    contract: SlaContract
    window: SlaWindow
    is_final: bool
    standings: tuple[SlaStanding, ...]
    audits: tuple[Audit, ...]
    digest: str
    settled: bool = Field(default=True, description="False: something of this window waits to be computed, and may change the numbers")


class MaintenanceDraft(Contract):
    """Work to be announced."""

    id: UUID = Field(description="Chosen by the asker, so that asking twice announces once")
    title: str
    description: str = ""
    services: tuple[str, ...]
    starts_at: Timestamp
    ends_at: Timestamp
    actor: str


class MaintenanceChange(Contract):
    """What changes of a window that has not ended; null: as it was. `end`: it ends now (cancelled, where it had not begun)."""

    id: UUID
    title: str | None = None
    description: str | None = None
    services: tuple[str, ...] | None = None
    starts_at: Timestamp | None = None
    ends_at: Timestamp | None = None
    end: bool = False
    actor: str


class MaintenanceQuery(Contract):
    """Which windows: those that touch a time, newest start first."""

    starts_at: Timestamp | None = None
    ends_at: Timestamp | None = None
    service_id: str | None = None
    limit: int = Field(default=100, ge=1, le=500)


class Maintenances(Contract):
    """Maintenance windows, newest start first."""

    maintenances: tuple[Maintenance, ...]
