"""What can be asked about maintenance windows, and what their time brings; each in one transaction."""

from datetime import datetime

from prometheus_client import Counter

from services.incidents import store, windows
from services.incidents.domain import maintenance
from services.incidents.domain.maintenance import CannotChange, Changes, Window, WindowStep
from services.incidents.usecases import SOURCE, TITLE_AT_MOST, empty_fields, refusal
from shared import outbox
from shared.contracts import maintenance as told
from shared.contracts.commands import FieldProblem, Problem
from shared.contracts.history import MaintenanceChange, MaintenanceDraft, MaintenanceQuery, Maintenances
from shared.contracts.maintenance import MaintenanceEndedV1, MaintenanceScheduledV1, MaintenanceStartedV1, MaintenanceUpdatedV1
from shared.contracts.registry import make_event
from shared.database import Connection
from shared.rpc import Refused
from shared.telemetry import correlation_id, logger

AT_ONCE = 100
"""Most windows that begin or end in one transaction."""
MOST_SERVICES = 1000
EVENTS: dict[WindowStep, type[MaintenanceScheduledV1 | MaintenanceUpdatedV1 | MaintenanceStartedV1 | MaintenanceEndedV1]] = {
    WindowStep.SCHEDULED: MaintenanceScheduledV1,
    WindowStep.UPDATED: MaintenanceUpdatedV1,
    WindowStep.STARTED: MaintenanceStartedV1,
    WindowStep.ENDED: MaintenanceEndedV1,
}

STEPS = Counter("sla_maintenance_steps_total", "Steps of maintenance windows", ["step"])
log = logger(__name__)


async def schedule(conn: Connection, draft: MaintenanceDraft) -> told.Maintenance:
    """Announce work; asked again with the same id, return what is there. Raises `Refused` (422) naming the fields."""
    known = await windows.find(conn, draft.id)
    if known is not None:
        return _contract(known)
    now = await windows.clock(conn)
    window = Window(
        id=draft.id,
        title=draft.title.strip(),
        description=draft.description.strip(),
        services=tuple(dict.fromkeys(draft.services)),
        starts_at=draft.starts_at,
        ends_at=draft.ends_at,
        created_by=draft.actor,
        created_at=now,
    )
    problems = await _problems(conn, window, known=())
    try:
        maintenance.check_times(window, now)
    except CannotChange as error:
        problems.append(FieldProblem(field=error.field, reason=str(error)))
    if problems:
        raise refusal(422, "Not valid", *problems)
    if await windows.add(conn, window):
        await _say(conn, window, WindowStep.SCHEDULED, now=now)
        log.info("maintenance announced", id=str(window.id), actor=draft.actor)
    return _contract(await windows.find(conn, draft.id) or window)


async def change(conn: Connection, wanted: MaintenanceChange) -> told.Maintenance:
    """Change or end a window. What changes nothing says nothing, and to end one that is over is nothing.

    Raises `Refused`: 404 for an unknown window, 409 for one that is over, 422 naming the fields.
    """
    window = await windows.lock(conn, wanted.id)
    if window is None:
        raise _not_found(wanted)
    now = await windows.clock(conn)
    try:
        step = maintenance.ended(window, now) if wanted.end else maintenance.changed(window, _changes(wanted), now)
    except CannotChange as error:
        status, title = (422, "Not valid") if error.field else (409, "Conflict")
        raise refusal(status, title, FieldProblem(field=error.field or "id", reason=str(error))) from error
    if step is None:
        return _contract(window)
    after, what = step
    problems = await _problems(conn, after, known=window.services)
    if problems:
        raise refusal(422, "Not valid", *problems)
    await windows.save(conn, after)
    await _say(conn, after, what, now=now)
    log.info("maintenance changed", id=str(after.id), step=what.value, actor=wanted.actor, version=after.version)
    return _contract(after)


async def advance(conn: Connection) -> int:
    """Begin and end the windows whose time has come, by the database's clock; return how many there were.

    Any number of replicas may look: each window is one's, and what is done is not due any more.
    """
    now = await windows.clock(conn)
    due = await windows.lock_due(conn, now, limit=AT_ONCE)
    for window in due:
        for after, step in maintenance.due(window, now):
            await windows.save(conn, after)
            await _say(conn, after, step, now=now)
    return len(due)


async def newest(conn: Connection, query: MaintenanceQuery) -> Maintenances:
    """Return the windows that touch a time, newest start first."""
    return Maintenances(maintenances=tuple(_contract(one) for one in await windows.newest(conn, query)))


def _changes(wanted: MaintenanceChange) -> Changes:
    services = None if wanted.services is None else tuple(dict.fromkeys(wanted.services))
    title, description = (None if one is None else one.strip() for one in (wanted.title, wanted.description))
    return Changes(title, description, services, wanted.starts_at, wanted.ends_at)


async def _problems(conn: Connection, window: Window, *, known: tuple[str, ...]) -> list[FieldProblem]:
    """Return what is wrong with a window's words and services. Services that it named before may be gone meanwhile."""
    problems = empty_fields({"title": window.title})
    if len(window.title) > TITLE_AT_MOST:
        problems.append(FieldProblem(field="title", reason=f"has {len(window.title)} characters; {TITLE_AT_MOST} is the most"))
    if not 1 <= len(window.services) <= MOST_SERVICES:
        problems.append(FieldProblem(field="services", reason=f"must name 1 to {MOST_SERVICES} services"))
    unknown = await store.unknown_services(conn, [one for one in window.services if one not in known])
    return problems + [FieldProblem(field="services", reason=f"there is no service {one!r}") for one in unknown]


async def _say(conn: Connection, window: Window, step: WindowStep, *, now: datetime) -> None:
    event = make_event(
        EVENTS[step](maintenance=_contract(window)),
        source=SOURCE,
        subject=str(window.id),
        version=window.version,
        at=now,
        correlation_id=correlation_id(),
    )
    await outbox.append(conn, event)
    STEPS.labels(step.value).inc()


def _contract(window: Window) -> told.Maintenance:
    return told.Maintenance(
        id=window.id,
        title=window.title,
        description=window.description,
        services=window.services,
        status=window.status,
        starts_at=window.starts_at,
        ends_at=window.ends_at,
        created_by=window.created_by,
        created_at=window.created_at,
        version=window.version,
    )


def _not_found(wanted: MaintenanceChange) -> Refused:
    return Refused(Problem(title="Not found", status=404, detail=f"There is no maintenance window {wanted.id}."))
