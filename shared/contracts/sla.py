"""SLA contracts: what was promised, how it stands, and the events that say so. Formulas: docs/sla.md."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Contract, Timestamp
from shared.contracts.codes import SlaPeriod, TimelineState
from shared.contracts.envelope import Payload


class SlaExclusion(Contract):
    """Time that a contract does not count, and who said so."""

    id: UUID
    starts_at: Timestamp
    ends_at: Timestamp
    reason: str
    made_by: str
    made_at: Timestamp


class SlaContract(Contract):
    """A promise about some services."""

    id: str = Field(description="kebab-case")
    name: str
    target: str = Field(description="Percent, as a decimal number in text: 99.95")
    period: SlaPeriod
    rolling_days: int = Field(default=30, description="For a rolling period")
    time_zone: str = "UTC"
    services: tuple[str, ...]
    partial_share: str = Field(default="0.3", description="How much of a partial outage is downtime: 0, 0.3, 0.5 or 1")
    count_maintenance: bool = False
    count_unknown: bool = False
    exclusions: tuple[SlaExclusion, ...] = Field(default=(), description="Those that hold; revoked ones are not among them")
    version: int = 0


class BurnRate(Contract):
    """One burn rule, as it is now. Null where nothing counts."""

    rule: str = Field(description="fast, medium or slow")
    threshold: float
    long: float | None
    short: float | None
    alerting: bool


class SlaStanding(Contract):
    """How one service stands in the present window of a contract. Percentages are cut, not rounded."""

    service_id: str
    uptime_percentage: float | None = Field(description="By time")
    checks_percentage: float | None = Field(description="By checks, as they were measured, also in time that is left out or corrected")
    counted_minutes: float
    downtime_minutes: float
    maintenance_minutes: float
    excluded_minutes: float
    unknown_minutes: float
    inactive_minutes: float
    budget_minutes: float
    budget_left_minutes: float
    budget_used_percentage: float | None
    met: bool | None
    burn_rates: tuple[BurnRate, ...] = ()


class SlaWindow(Contract):
    """The window that a standing is about."""

    starts_at: Timestamp
    ends_at: Timestamp


class SlaBurnRateV1(Payload):
    """A contract's error budget began to burn too fast, or no longer does: `burn.alerting` says which."""

    TYPE: ClassVar[str] = "sla.burn_rate.v1"
    contract: SlaContract
    service_id: str
    window: SlaWindow
    burn: BurnRate


class SlaBudgetExhaustedV1(Payload):
    """Nothing is left of a contract's error budget in this window."""

    TYPE: ClassVar[str] = "sla.budget_exhausted.v1"
    contract: SlaContract
    window: SlaWindow
    standing: SlaStanding


class SlaBreachedV1(Payload):
    """A window ended, and its target was not met."""

    TYPE: ClassVar[str] = "sla.breached.v1"
    contract: SlaContract
    window: SlaWindow
    standing: SlaStanding


class StateInterval(Contract):
    """A stretch of a service's timeline; `ended_at` null: it goes on."""

    state: TimelineState
    started_at: Timestamp
    ended_at: Timestamp | None
    regions_down: tuple[str, ...] = ()
    regions_degraded: tuple[str, ...] = ()
    correction: UUID | None = None
    maintenance: UUID | None = Field(default=None, description="In timelines only: the window over it, which hides nothing")


class Correction(Contract):
    """A stretch of the past that a person reclassified. The measured facts stay beside it."""

    id: UUID
    service_id: str
    starts_at: Timestamp
    ends_at: Timestamp
    state: TimelineState
    reason: str
    made_by: str
    made_at: Timestamp
    revoked_by: str | None = None
    revoked_at: Timestamp | None = None
    revoked_reason: str | None = None
