"""Which stretches of an audit were outages, and what is to be noted of each."""

from dataclasses import dataclass
from datetime import datetime

from shared.contracts.codes import TimelineState
from shared.contracts.history import Audit
from shared.contracts.sla import StateInterval

DOWN = frozenset({TimelineState.DOWN, TimelineState.PARTIAL})


@dataclass(frozen=True, slots=True)
class Outage:
    """A stretch that was not up, inside the time that was asked about.

    `notes`: corrected, excluded, maintenance (a part of it at least lies in one), ongoing (it went on beyond what is told).
    """

    service_id: str
    state: TimelineState
    starts_at: datetime
    ends_at: datetime
    regions: tuple[str, ...]
    notes: tuple[str, ...]


def outages(audit: Audit) -> list[Outage]:
    """Return the stretches that were down or partly down, oldest first; unknown ones too where they count as downtime."""
    states = DOWN | {TimelineState.UNKNOWN} if audit.count_unknown else DOWN
    found = [_outage(one, audit) for one in audit.intervals if one.state in states]
    return sorted((one for one in found if one.ends_at > one.starts_at), key=lambda one: one.starts_at)


def _outage(one: StateInterval, audit: Audit) -> Outage:
    start = max(one.started_at, audit.starts_at)
    end = audit.ends_at if one.ended_at is None else min(one.ended_at, audit.ends_at)

    def touched(starts_at: datetime, ends_at: datetime) -> bool:
        return starts_at < end and ends_at > start

    notes = {
        "corrected": one.correction is not None,
        "excluded": any(touched(span.starts_at, span.ends_at) for span in audit.exclusions),
        "maintenance": any(touched(span.starts_at, span.ends_at) for span in audit.maintenances),
        "ongoing": one.ended_at is None or one.ended_at > audit.ends_at,
    }
    return Outage(audit.service_id, one.state, start, end, one.regions_down, tuple(name for name, holds in notes.items() if holds))
