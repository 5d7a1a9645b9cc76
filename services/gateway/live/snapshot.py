"""The read model in Redis, with its place in the stream: a replica that starts has something true at once, whatever else is down.

Never the only copy: what is missing or cannot be read is built from the stream and the owners instead.
"""

import asyncio
from datetime import datetime
from typing import Literal

from pydantic import ValidationError

from services.gateway.cache import Cache
from services.gateway.live.hub import Hub, Mark
from services.gateway.live.readmodel import Facts
from shared.clock import Clock
from shared.contracts.base import Contract, Timestamp
from shared.contracts.incidents import Incident
from shared.contracts.maintenance import Maintenance
from shared.contracts.services import ServiceDefinition
from shared.contracts.status import ServiceStatus, SystemStatus
from shared.telemetry import logger

KEY = "sla:gateway:snapshot:1"
KEEP_S = 7 * 24 * 3600
"""As long as the stream keeps events: an older snapshot has no place in it any more."""
log = logger(__name__)


class Snapshot(Contract):
    """What is saved."""

    form: Literal[1] = 1
    saved_at: Timestamp
    offset: int
    message_id: str
    services: tuple[ServiceDefinition, ...]
    removed: dict[str, int]
    statuses: tuple[ServiceStatus, ...]
    system: SystemStatus | None
    incidents: tuple[Incident, ...]
    maintenances: tuple[Maintenance, ...] = ()
    """Absent in a snapshot of the version before."""


def of_hub(hub: Hub, *, now: datetime) -> Snapshot:
    """Return the hub's state as it is now."""
    facts = hub.model.facts
    return Snapshot(
        saved_at=now,
        offset=hub.mark.offset if hub.mark else -1,
        message_id=hub.mark.message_id if hub.mark else "",
        services=tuple(facts.services.values()),
        removed=facts.removed,
        statuses=tuple(facts.statuses.values()),
        system=facts.system,
        incidents=tuple(facts.incidents.values()),
        maintenances=tuple(facts.maintenances.values()),
    )


def restore(hub: Hub, snapshot: Snapshot) -> None:
    """Let a new hub begin from a saved state."""
    hub.model.facts = Facts(
        services={one.id: one for one in snapshot.services},
        removed=dict(snapshot.removed),
        statuses={one.service_id: one for one in snapshot.statuses},
        incidents={one.id: one for one in snapshot.incidents},
        maintenances={str(one.id): one for one in snapshot.maintenances},
        system=snapshot.system,
    )
    hub.model.revision += 1
    mark = Mark(snapshot.offset, snapshot.message_id) if snapshot.offset >= 0 else None
    hub.resume_from(mark, as_of=snapshot.saved_at)


async def load(hub: Hub, cache: Cache) -> bool:
    """Begin from what Redis has; say whether it had anything that can be used."""
    body = await cache.get(KEY)
    if body is None:
        return False
    try:
        snapshot = Snapshot.model_validate_json(body)
    except ValidationError as error:
        log.warning("the saved snapshot is of another form: building anew", errors=error.error_count())
        return False
    restore(hub, snapshot)
    log.info("began from the saved snapshot", offset=snapshot.offset)
    return True


async def keep_saving(hub: Hub, cache: Cache, *, every_s: float, clock: Clock) -> None:
    """Save whenever something changed, at most every `every_s` seconds, for ever. Only a state that is followed live is saved."""
    saved: tuple[int, int | None] | None = None
    while True:
        await asyncio.sleep(every_s)
        state = (hub.model.revision, hub.offset)
        if (
            hub.ready
            and hub.live
            and state != saved
            and await cache.put(KEY, of_hub(hub, now=clock()).model_dump_json().encode(), keep_s=KEEP_S)
        ):
            saved = state
