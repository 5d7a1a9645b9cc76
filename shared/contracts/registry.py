"""Every event type there is, by its name; how events become bytes and are read again."""

from datetime import datetime
from functools import cache
from typing import Any, TypeVar, cast

from pydantic import ValidationError

from shared.contracts.checks import CallBatchV1, CheckBatchV1, CheckerIsolatedV1, CheckerRecoveredV1
from shared.contracts.envelope import Event, Payload, event_id
from shared.contracts.incidents import IncidentOpenedV1, IncidentResolvedV1, IncidentUpdatedV1
from shared.contracts.maintenance import MaintenanceEndedV1, MaintenanceScheduledV1, MaintenanceStartedV1, MaintenanceUpdatedV1
from shared.contracts.services import ServiceRegisteredV1, ServiceRemovedV1, ServiceUpdatedV1
from shared.contracts.sla import SlaBreachedV1, SlaBudgetExhaustedV1, SlaBurnRateV1
from shared.contracts.status import ServiceStatusChangedV1, SystemStatusChangedV1

PAYLOADS: dict[str, type[Payload]] = {
    payload.TYPE: payload
    for payload in (
        CheckBatchV1,
        CallBatchV1,
        CheckerIsolatedV1,
        CheckerRecoveredV1,
        ServiceRegisteredV1,
        ServiceUpdatedV1,
        ServiceRemovedV1,
        ServiceStatusChangedV1,
        SystemStatusChangedV1,
        IncidentOpenedV1,
        IncidentUpdatedV1,
        IncidentResolvedV1,
        MaintenanceScheduledV1,
        MaintenanceUpdatedV1,
        MaintenanceStartedV1,
        MaintenanceEndedV1,
        SlaBurnRateV1,
        SlaBudgetExhaustedV1,
        SlaBreachedV1,
    )
}

P = TypeVar("P", bound=Payload)


class Undecodable(ValueError):  # noqa: N818  # names the fact
    """The bytes are no event of a known type; the message names what is wrong. Retrying cannot help."""


class UnknownType(Undecodable):
    """The type is none that this version knows: a newer sender's. Readers of the older version pass it by."""


def make_event(data: P, *, source: str, subject: str, version: int, at: datetime, correlation_id: str) -> Event[P]:
    """Return the event that says `data`, with its id derived from type, subject and version."""
    event = _event_model(type(data))(
        id=event_id(data.TYPE, subject, version),
        source=source,
        type=data.TYPE,
        subject=subject,
        time=at,
        correlationid=correlation_id,
        data=data,
    )
    return cast("Event[P]", event)


def encode(event: Event[Any]) -> bytes:
    """Return the structured JSON of an event, UTF-8."""
    return event.model_dump_json().encode()


@cache
def _event_model(payload: type[Payload]) -> type[Event[Any]]:
    return Event[payload]  # type: ignore[valid-type]  # the parametrised model is made at run time


def decode(event_type: str, body: bytes) -> Event[Any]:
    """Read an event of the given type. Raises `UnknownType`, `Undecodable`."""
    payload = PAYLOADS.get(event_type)
    if payload is None:
        msg = f"unknown event type {event_type!r}"
        raise UnknownType(msg)
    try:
        return _event_model(payload).model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the message"
        msg = f"{event_type}: {where}: {first['msg']}"
        raise Undecodable(msg) from error
