"""The envelope of every event: CloudEvents 1.0, structured JSON (github.com/cloudevents/spec, v1.0.2, section 3)."""

from typing import ClassVar, Generic, Literal, TypeVar
from uuid import NAMESPACE_URL, UUID, uuid5

from pydantic import Field

from shared.contracts.base import Contract, Timestamp

EVENT_NAMESPACE = uuid5(NAMESPACE_URL, "sla-monitor/events")


class Payload(Contract):
    """The data of one event type. `TYPE` is its CloudEvents type and its routing key, with its version."""

    TYPE: ClassVar[str]


Data = TypeVar("Data", bound=Payload)


class Event(Contract, Generic[Data]):
    """One fact, said once. `id` is derived from what the fact is about, so that saying it twice is the same event."""

    specversion: Literal["1.0"] = "1.0"
    id: UUID
    source: str = Field(description="The service that says it: /checker, /aggregator, /incidents, /gateway")
    type: str = Field(description="Event type and routing key, with its version")
    subject: str = Field(description="The service or incident that it is about")
    time: Timestamp = Field(description="When it was said")
    datacontenttype: Literal["application/json"] = "application/json"
    correlationid: str = Field(default="", description="Follows one cause through every service (extension attribute)")
    data: Data


def event_id(event_type: str, subject: str, version: int) -> UUID:
    """Return the id of the event that brings `subject` to `version`: the same for everybody who derives it."""
    return uuid5(EVENT_NAMESPACE, f"{event_type}/{subject}/{version}")
