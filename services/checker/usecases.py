"""What can be asked of the checker. Each is one transaction of the caller's: load, decide, save, append to the outbox."""

import asyncio
from collections.abc import Container, Sequence
from typing import Any

from services.checker import plans, store
from services.checker.domain.definition import FIELDS, Definition, Rejected
from services.checker.domain.hosts import HostRules
from services.checker.domain.kinds import Flaw
from services.checker.drafts import LANGUAGE, Terms, accept, amended
from services.checker.probes import KINDS
from services.checker.secrets import NO_KEYS, CannotUnseal, Sealer, has_secrets, mask
from services.checker.store import Stored
from shared import outbox
from shared.contracts.checks import CheckBatchV1
from shared.contracts.commands import (
    FieldProblem,
    KindDescription,
    Kinds,
    Plan,
    Problem,
    ServiceDraft,
    ServicePatch,
    ServiceRef,
    Services,
    ServiceSet,
)
from shared.contracts.envelope import Event, Payload
from shared.contracts.registry import make_event
from shared.contracts.services import Assertion, ServiceDefinition, ServiceRegisteredV1, ServiceRemovedV1, ServiceUpdatedV1
from shared.contracts.status import ServiceStatusChangedV1
from shared.database import Connection
from shared.rpc import Refused
from shared.telemetry import correlation_id, logger

__all__ = ["LANGUAGE", "CannotUnseal", "Sealer"]

SOURCE = "/checker"
MOST_NAMED = 100
"""Services named in one line of the log."""
log = logger(__name__)


async def create(conn: Connection, draft: ServiceDraft, *, rules: HostRules, sealer: Sealer = NO_KEYS) -> ServiceDefinition:
    """Begin to check a service. Raises `Refused`: 422 for a definition that cannot work, 409 for an id or a name that is taken."""
    wanted = accepted(accept(draft.definition, Terms(rules, sealer)))
    revision = await store.next_revision(conn)
    taken = [Flaw("id", "is taken by another service")] if await present(conn, wanted.id) else []
    await _refuse_taken(conn, wanted, taken)
    await _refuse_unfounded(conn, wanted)
    await _refuse_circular(conn, wanted)
    (stored,) = await store.save(conn, [wanted], revision_=revision)
    await outbox.append(conn, _event(ServiceRegisteredV1(service=as_contract(stored)), stored))
    log.info("service created", service_id=wanted.id, actor=draft.actor, version=stored.version)
    return as_contract(stored)


async def change(conn: Connection, patch: ServicePatch, *, rules: HostRules, sealer: Sealer = NO_KEYS) -> ServiceDefinition:
    """Change some fields of a service; a secret's mask keeps it. Raises `Refused`: 404, 422 or 409. What changes nothing says nothing."""
    await store.hold(conn)
    before = await _present(conn, patch.id)
    wanted = accepted(amended(before.definition, patch.changes, Terms(rules, sealer)))
    if wanted == before.definition:
        return as_contract(before)
    await _refuse_taken(conn, wanted, [])
    if wanted.depends_on != before.definition.depends_on:  # what it stood on may be gone meanwhile: that is no flaw of this change
        await _refuse_unfounded(conn, wanted)
    await _refuse_circular(conn, wanted)
    (stored,) = await store.save(conn, [wanted], revision_=await store.next_revision(conn))
    await outbox.append(conn, _event(ServiceUpdatedV1(service=as_contract(stored)), stored))
    fields = [name for name in FIELDS if getattr(wanted, name) != getattr(before.definition, name)]
    log.info("service changed", service_id=wanted.id, actor=patch.actor, version=stored.version, fields=fields)
    return as_contract(stored)


async def remove(conn: Connection, ref: ServiceRef) -> None:
    """Stop checking a service, and forget its secrets. Removing it again changes nothing. Raises `Refused` (404) if there never was one."""
    await store.hold(conn)
    if await store.get(conn, ref.id) is None:
        raise _unknown(ref.id)
    await _remove(conn, [ref.id], actor=ref.actor)


async def apply(conn: Connection, wanted: ServiceSet, *, rules: HostRules, sealer: Sealer = NO_KEYS) -> Plan:
    """Make the services what a set of definitions says: all of it or nothing. Applying it again changes nothing.

    A definition stands for the whole of its service: what it leaves out has its default. Raises `Refused`: 422 naming every flaw by place,
    as in "definitions.3.options.method", 409 for names that two services would have.
    """
    await store.hold(conn)
    there = {stored.definition.id: stored.definition for stored in await store.all_present(conn)}
    # On a thread, as all long work here: meanwhile checks come due.
    definitions, flaws = await asyncio.to_thread(plans.judge_all, wanted.definitions, there, Terms(rules, sealer))
    if not flaws:
        stand_on = {one.id: one.depends_on for one in there.values()}
        flaws = await asyncio.to_thread(plans.unfounded, definitions, stand_on, prune=wanted.prune)
        members = {one.id: one.options["members"] for one in there.values() if one.kind == plans.GROUP}
        flaws += await asyncio.to_thread(plans.circular, definitions, members, prune=wanted.prune)
    if flaws:
        raise _refusal(422, "Not valid", f"{len(flaws)} fields cannot be accepted; nothing was applied.", flaws[: plans.MOST_FLAWS])
    taken = plans.taken_names(definitions, there, prune=wanted.prune)
    if taken:
        raise _refusal(409, "Already exists", "Two services would have one name; nothing was applied.", taken[: plans.MOST_FLAWS])
    found = await asyncio.to_thread(plans.compare, definitions, there, prune=wanted.prune)
    if not wanted.dry_run and (found.saved or found.removed):
        await _remove(conn, found.removed, actor=wanted.actor)
        await _save_all(conn, found, there.keys())
        log.info("definitions applied", actor=wanted.actor, saved=len(found.saved), removed=len(found.removed), of=len(definitions))
    return Plan(changes=found.changes, applied=not wanted.dry_run)


async def list_services(conn: Connection) -> Services:
    """Return every service that is not removed, by id."""
    return Services(services=tuple(as_contract(stored) for stored in await store.all_present(conn)))


async def get_service(conn: Connection, ref: ServiceRef) -> ServiceDefinition:
    """Return one service. Raises `Refused` (404)."""
    return as_contract(await _present(conn, ref.id))


async def present(conn: Connection, service_id: str) -> Definition | None:
    """Return a definition as it is stored, secrets sealed: for this service alone. None if there is none."""
    stored = await store.get(conn, service_id)
    return None if stored is None or stored.removed_at is not None else stored.definition


async def reseal(conn: Connection, sealer: Sealer) -> int:
    """Seal every secret with the first key; return how many services have some. Changes no definition. Raises `CannotUnseal` for one."""
    await store.hold(conn)
    anew = {}
    for service_id, options in (await store.all_options(conn)).items():
        if has_secrets(options):
            try:
                anew[service_id] = sealer.reseal(options)
            except CannotUnseal as error:
                msg = f"{service_id}: {error}"
                raise CannotUnseal(msg) from None
    await store.reseal(conn, anew)
    return len(anew)


def kinds() -> Kinds:
    """Return every kind of check, described for people, forms and editors."""
    return Kinds(
        kinds=tuple(
            KindDescription(name=one.name, title=one.title, endpoint=one.endpoint, options=dict(one.schema), sources=tuple(one.sources))
            for one in KINDS.values()
        )
    )


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
    """Return a stored definition as everybody may know it: secrets masked."""
    values = {name: getattr(stored.definition, name) for name in FIELDS}
    values["options"] = mask(stored.definition.options)
    values["assertions"] = tuple(Assertion.model_validate(one) for one in stored.definition.assertions)
    # Of the right types already: validating ten thousand once more would hold up the checks.
    return ServiceDefinition.model_construct(**values, created_at=stored.created_at, updated_at=stored.updated_at, version=stored.version)


def accepted(judged: Definition | Rejected) -> Definition:
    """Return a definition that was accepted. Raises `Refused` (422) with everything that is wrong."""
    if isinstance(judged, Definition):
        return judged
    raise _refusal(422, "Not valid", "The definition cannot work.", judged.flaws)


def unreadable(error: CannotUnseal) -> Refused:
    """Return the refusal (422) of a definition whose stored secrets cannot be read."""
    return _refusal(422, "Not valid", "The definition cannot work.", [Flaw("options", str(error))])


async def _save_all(conn: Connection, found: plans.Differences, there: Container[str]) -> None:
    await store.free_names(conn, found.renamed)
    saved = await store.save(conn, found.saved, revision_=await store.next_revision(conn))

    def events() -> list[Event[Any]]:
        whats = [(ServiceUpdatedV1 if one.definition.id in there else ServiceRegisteredV1, one) for one in saved]
        return [_event(what(service=as_contract(one)), one) for what, one in whats]

    await outbox.append_many(conn, await asyncio.to_thread(events))


async def _remove(conn: Connection, service_ids: Sequence[str], *, actor: str) -> None:
    if not service_ids:
        return
    removed = await store.remove(conn, service_ids, revision_=await store.next_revision(conn))

    def events() -> list[Event[Any]]:
        return [
            _event(ServiceRemovedV1(service=as_contract(one), removed_at=one.removed_at), one)
            for one in removed
            if one.removed_at is not None
        ]

    await outbox.append_many(conn, await asyncio.to_thread(events))
    log.info("services removed", service_ids=[one.definition.id for one in removed[:MOST_NAMED]], number=len(removed), actor=actor)


async def _refuse_taken(conn: Connection, wanted: Definition, taken: list[Flaw]) -> None:
    if await store.name_taken(conn, wanted.name, besides=wanted.id):
        taken = [*taken, Flaw("name", "is taken by another service")]
    if taken:
        raise _refusal(409, "Already exists", "Another service has this id or name.", taken)


async def _refuse_unfounded(conn: Connection, wanted: Definition) -> None:
    if not wanted.depends_on:
        return
    flaws = plans.unfounded([wanted], await store.dependencies(conn), prune=False)
    if flaws:
        raise _refusal(422, "Not valid", "The definition cannot work.", [Flaw("depends_on", flaws[0].reason)])


async def _refuse_circular(conn: Connection, wanted: Definition) -> None:
    if wanted.kind != plans.GROUP:
        return
    flaws = plans.circular([wanted], await store.members(conn), prune=False)
    if flaws:
        raise _refusal(422, "Not valid", "The definition cannot work.", [Flaw("options.members", flaws[0].reason)])


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


def _event(what: Payload, stored: Stored) -> Event[Any]:
    return make_event(
        what, source=SOURCE, subject=stored.definition.id, version=stored.version, at=stored.updated_at, correlation_id=correlation_id()
    )
