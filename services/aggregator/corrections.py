"""Corrections: a stretch of the past that a person reclassifies, with a reason. What was measured stays beside it.

They are laid over the timeline whenever it is read (domain/timeline.py, corrected), never written into it; so revoking one brings back
what was measured, and both stay readable as they were published.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

from asyncpg import Record

from services.aggregator import rollups, store, timelines
from services.aggregator.store import moment, slot_of
from shared.contracts.codes import TimelineState
from shared.contracts.commands import FieldProblem, Problem
from shared.contracts.history import CorrectionDraft, CorrectionRef, Corrections
from shared.contracts.sla import Correction
from shared.database import Connection
from shared.rpc import Refused

LONGEST = timedelta(days=400)
REASON_LENGTH = 2_000
LISTED = 1_000

_COLUMNS = "id, number, service_id, starts_at, ends_at, state, reason, made_by, made_at, revoked_by, revoked_at, revoked_reason"
SQL_MAKE = """
insert into correction (id, service_id, starts_at, ends_at, state, reason, made_by, made_at) values ($1, $2, $3, $4, $5, $6, $7, $8)
    on conflict (id) do nothing"""
SQL_FIND = f"select {_COLUMNS} from correction where id = $1"
SQL_REVOKE = "update correction set revoked_by = $2, revoked_at = $3, revoked_reason = $4 where id = $1 and revoked_at is null"
SQL_LIST = f"select {_COLUMNS} from correction where service_id = $1 order by number desc limit $2"
SQL_OVER = f"""
select {_COLUMNS} from correction
 where service_id = any($1::text[]) and starts_at < $3 and ends_at > $2
   and ($4::timestamptz is null and revoked_at is null or made_at <= $4 and (revoked_at is null or revoked_at > $4))
 order by number"""


async def make(conn: Connection, draft: CorrectionDraft, *, now: datetime) -> Correction:
    """Reclassify a stretch of the past; asked twice with the same id, once. Needs a transaction.

    Raises `Refused`: 404 for a service that was never heard of, 409 for an id that says something else already, 422 for time that has
    not come, or in which the service did not exist yet, and for a reason that says nothing.
    """
    if await store.find_service(conn, draft.service_id) is None:
        raise Refused(Problem(title="Not found", status=404, detail=f"There is no service {draft.service_id!r}."))
    rules = await timelines.rules(conn, draft.service_id)
    created_at = moment(rules[0].since) if rules else now
    if problems := _problems(draft, created_at=created_at, now=now):
        raise Refused(Problem(title="Not valid", status=422, detail="This cannot be corrected so.", errors=tuple(problems)))
    said = (draft.service_id, moment(slot_of(draft.starts_at)), moment(slot_of(draft.ends_at)), draft.state.value, draft.reason.strip())
    await conn.execute(SQL_MAKE, draft.id, *said, draft.actor, now)
    stored = await conn.fetchrow(SQL_FIND, draft.id)
    if stored is None or tuple(stored)[2:7] != said:
        raise Refused(Problem(title="Conflict", status=409, detail=f"The correction {draft.id} says something else."))
    await rollups.reopen(conn, stored["service_id"], stored["starts_at"], stored["ends_at"])
    return _correction(stored)


def _problems(draft: CorrectionDraft, *, created_at: datetime, now: datetime) -> list[FieldProblem]:
    reason = draft.reason.strip()
    wrong = {
        "ends_at": "must be after starts_at" if draft.ends_at <= draft.starts_at else "has not come yet" if draft.ends_at > now else None,
        "starts_at": "the service did not exist yet" if slot_of(draft.starts_at) < slot_of(created_at) else None,
        "reason": "say why" if not reason else f"at most {REASON_LENGTH} characters" if len(reason) > REASON_LENGTH else None,
        "actor": None if draft.actor else "say who",
    }
    if draft.ends_at - draft.starts_at > LONGEST:
        wrong["ends_at"] = f"at most {LONGEST.days} days at once"
    return [FieldProblem(field=field, reason=reason) for field, reason in wrong.items() if reason]


async def revoke(conn: Connection, ref: CorrectionRef, *, now: datetime) -> Correction:
    """Take a correction back: from now on it does not hold; what was published with it stays readable. Twice is once.

    Raises `Refused`: 404 if there is none of that id, 422 for a reason that is too long.
    """
    if len(ref.reason) > REASON_LENGTH:
        errors = (FieldProblem(field="reason", reason=f"at most {REASON_LENGTH} characters"),)
        raise Refused(Problem(title="Not valid", status=422, detail="This cannot be revoked so.", errors=errors))
    await conn.execute(SQL_REVOKE, ref.id, ref.actor, now, ref.reason.strip() or None)
    stored = await conn.fetchrow(SQL_FIND, ref.id)
    if stored is None:
        raise Refused(Problem(title="Not found", status=404, detail=f"There is no correction {ref.id}."))
    await rollups.reopen(conn, stored["service_id"], stored["starts_at"], stored["ends_at"])
    return _correction(stored)


async def of_service(conn: Connection, service_id: str) -> Corrections:
    """Return the newest corrections of a service, newest first, revoked ones too. Raises `Refused` (404) for an unknown service."""
    if await store.find_service(conn, service_id) is None:
        raise Refused(Problem(title="Not found", status=404, detail=f"There is no service {service_id!r}."))
    return Corrections(corrections=tuple(_correction(row) for row in await conn.fetch(SQL_LIST, service_id, LISTED)))


async def over(conn: Connection, services: Sequence[str], start: int, end: int, *, as_of: datetime | None) -> list[Correction]:
    """Return the corrections of some services that hold over a time (ms), or held `as_of` a moment, in the order in which they were made.

    One that held then tells nothing of its being revoked since.
    """
    found = [_correction(row) for row in await conn.fetch(SQL_OVER, services, moment(start), moment(end), as_of)]
    return [one.model_copy(update={"revoked_by": None, "revoked_at": None, "revoked_reason": None}) for one in found]


def _correction(row: Record) -> Correction:
    fields = dict(row)
    del fields["number"]
    return Correction(**fields | {"state": TimelineState(row["state"])})
