"""Incidents and their timelines."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Contract, Timestamp
from shared.contracts.codes import IncidentStatus, Priority, Severity
from shared.contracts.envelope import Payload


class IncidentUpdate(Contract):
    """One entry of an incident's timeline. `message` is Markdown."""

    id: UUID
    status: IncidentStatus
    message: str
    is_customer_visible: bool = True
    created_by: str
    created_at: Timestamp


class Incident(Contract):
    """An incident as it is now."""

    id: UUID
    title: str
    description: str = ""
    status: IncidentStatus
    severity: Severity
    priority: Priority
    affected_services: tuple[str, ...]
    started_at: Timestamp
    identified_at: Timestamp | None = None
    resolved_at: Timestamp | None = None
    duration_minutes: int | None = Field(default=None, description="Whole minutes from start to resolution; null while it is open")
    impact_description: str = ""
    root_cause: str = ""
    resolution_notes: str = ""
    created_by: str
    resolved_by: str | None = None
    version: int
    updates: tuple[IncidentUpdate, ...] = Field(default=(), description="The timeline, oldest first; in events only the entry that is new")


class IncidentOpenedV1(Payload):
    """An incident began."""

    TYPE: ClassVar[str] = "incident.opened.v1"
    incident: Incident


class IncidentUpdatedV1(Payload):
    """An incident changed or its timeline grew."""

    TYPE: ClassVar[str] = "incident.updated.v1"
    incident: Incident


class IncidentResolvedV1(Payload):
    """An incident ended."""

    TYPE: ClassVar[str] = "incident.resolved.v1"
    incident: Incident
