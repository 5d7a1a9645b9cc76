"""What can be asked of the checker. Each is one transaction of the caller's: load, decide, save, append to the outbox."""

from collections.abc import Sequence
from dataclasses import asdict

from services.checker import store
from services.checker.assertions import read_assertions
from services.checker.domain.definition import Definition, Rejected, amend, define
from services.checker.domain.hosts import HostRules
from services.checker.domain.kinds import Flaw, Language
from services.checker.probes import KINDS
from services.checker.store import Stored
from shared import outbox
from shared.contracts.checks import CheckBatchV1
from shared.contracts.commands import FieldProblem, Problem, ServiceDraft, ServicePatch, ServiceRef, Services
from shared.contracts.envelope import Event, Payload
from shared.contracts.registry import make_event
from shared.contracts.services import ServiceDefinition, ServiceRegisteredV1, ServiceRemovedV1, ServiceUpdatedV1
from shared.contracts.status import ServiceStatusChangedV1
from shared.database import Connection
from shared.rpc import Refused
from shared.telemetry import correlation_id, logger

SOURCE = "/checker"
LANGUAGE = Language(KINDS, read_assertions)
log = logger(__name__)


async def create(conn: Connection, draft: ServiceDraft, *, rules: HostRules) -> ServiceDefinition:
    """Begin to check a service. Raises `Refused`: 422 for a definition that cannot work, 409 for an id or a name that is taken."""
    wanted = _accepted(define(draft.definition, rules, LANGUAGE))
    revision = await store.next_revision(conn)
    present = await store.get(conn, wanted.id)
    taken = [Flaw("id", "is taken by another service")] if present and present.removed_at is None else []
    await _refuse_taken(conn, wanted, taken)
    stored = await store.save(conn, wanted, revision_=revision)
    service = as_contract(stored)
    await _say(conn, ServiceRegisteredV1(service=service), stored)
    log.info("service created", service_id=service.id, actor=draft.actor, version=service.version)
    return service


async def change(conn: Connection, patch: ServicePatch, *, rules: HostRules) -> ServiceDefinition:
    """Change some fields of a service. Raises `Refused`: 404, 422 or 409. A change that changes nothing says nothing."""
    revision = await store.next_revision(conn)
    present = await _present(conn, patch.id)
    wanted = _accepted(amend(present.definition, patch.changes, rules, LANGUAGE))
    if wanted == present.definition:
        return as_contract(present)
    await _refuse_taken(conn, wanted, [])
    stored = await store.save(conn, wanted, revision_=revision)
    service = as_contract(stored)
    await _say(conn, ServiceUpdatedV1(service=service), stored)
    log.info("service changed", service_id=service.id, actor=patch.actor, version=service.version, fields=sorted(patch.changes))
    return service


async def remove(conn: Connection, ref: ServiceRef) -> None:
    """Stop checking a service. Removing it again changes nothing. Raises `Refused` (404) if there never was one."""
    revision = await store.next_revision(conn)
    stored = await store.remove(conn, ref.id, revision_=revision)
    if stored is None:
        if await store.get(conn, ref.id) is None:
            raise _unknown(ref.id)
        return
    if stored.removed_at is not None:
        await _say(conn, ServiceRemovedV1(service=as_contract(stored), removed_at=stored.removed_at), stored)
    log.info("service removed", service_id=ref.id, actor=ref.actor, version=stored.version)


async def list_services(conn: Connection) -> Services:
    """Return every service that is not removed, by id."""
    return Services(services=tuple(as_contract(stored) for stored in await store.all_present(conn)))


async def get_service(conn: Connection, ref: ServiceRef) -> ServiceDefinition:
    """Return one service. Raises `Refused` (404)."""
    return as_contract(await _present(conn, ref.id))


async def apply_status(conn: Connection, event: Event[ServiceStatusChangedV1]) -> None:
    """Keep the copy of a service's status. Safe to run twice and in any order: an older version changes nothing."""
    status = event.data.status
    await store.apply_status(conn, status.service_id, status.status, status.version)


async def write_down(conn: Connection, batches: Sequence[Event[CheckBatchV1]]) -> None:
    """Write the checks of some batches to `watch_server_logs`. Safe to run twice: a check is known by its id."""
    results = [result for batch in batches for result in batch.data.results]
    if results:
        await store.write_logs(conn, results)


def as_contract(stored: Stored) -> ServiceDefinition:
    """Return a stored definition as everybody may know it."""
    return ServiceDefinition.model_validate(
        {**asdict(stored.definition), "created_at": stored.created_at, "updated_at": stored.updated_at, "version": stored.version}
    )


def _accepted(judged: Definition | Rejected) -> Definition:
    if isinstance(judged, Definition):
        return judged
    raise _refusal(422, "Not valid", "The definition cannot work.", judged.flaws)


async def _refuse_taken(conn: Connection, wanted: Definition, taken: list[Flaw]) -> None:
    if await store.name_taken(conn, wanted.name, besides=wanted.id):
        taken = [*taken, Flaw("name", "is taken by another service")]
    if taken:
        raise _refusal(409, "Already exists", "Another service has this id or name.", taken)


async def _present(conn: Connection, service_id: str) -> Stored:
    stored = await store.get(conn, service_id)
    if stored is None or stored.removed_at is not None:
        raise _unknown(service_id)
    return stored


def _unknown(service_id: str) -> Refused:
    return _refusal(404, "Not found", f"There is no service {service_id!r}.", ())


def _refusal(status: int, title: str, detail: str, flaws: Sequence[Flaw]) -> Refused:
    errors = tuple(FieldProblem(field=flaw.field, reason=flaw.reason) for flaw in flaws)
    return Refused(Problem(title=title, status=status, detail=detail, errors=errors))


async def _say(conn: Connection, what: Payload, stored: Stored) -> None:
    event = make_event(
        what, source=SOURCE, subject=stored.definition.id, version=stored.version, at=stored.updated_at, correlation_id=correlation_id()
    )
    await outbox.append(conn, event)
