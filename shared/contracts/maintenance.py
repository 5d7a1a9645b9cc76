"""Maintenance windows: announced work. Facts go on being measured in them; alerts are muted."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Contract, Timestamp
from shared.contracts.codes import MaintenanceStatus
from shared.contracts.envelope import Payload


class Maintenance(Contract):
    """A maintenance window as it is now."""

    id: UUID
    title: str
    description: str = ""
    services: tuple[str, ...]
    status: MaintenanceStatus
    starts_at: Timestamp
    ends_at: Timestamp = Field(description="As announced, until it ended; then when it did")
    created_by: str
    created_at: Timestamp
    version: int


class MaintenanceScheduledV1(Payload):
    """A maintenance window was announced."""

    TYPE: ClassVar[str] = "maintenance.scheduled.v1"
    maintenance: Maintenance


class MaintenanceUpdatedV1(Payload):
    """A maintenance window was changed before its end."""

    TYPE: ClassVar[str] = "maintenance.updated.v1"
    maintenance: Maintenance


class MaintenanceStartedV1(Payload):
    """A maintenance window began."""

    TYPE: ClassVar[str] = "maintenance.started.v1"
    maintenance: Maintenance


class MaintenanceEndedV1(Payload):
    """A maintenance window ended, or was cancelled: its status says which."""

    TYPE: ClassVar[str] = "maintenance.ended.v1"
    maintenance: Maintenance
