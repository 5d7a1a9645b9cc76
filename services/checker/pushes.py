"""Jobs that report themselves: their secret addresses and what they say. Each function is one transaction of the caller's."""

import hashlib
import secrets
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from services.checker.domain.known import GAP_MS, MOST_GAPS, Gap, PushState
from services.checker.domain.push import Signal, take
from services.checker.domain.redact import redact
from shared.contracts.commands import FieldProblem, Problem, PushSignal, PushToken, ServiceRef
from shared.database import Connection, affected
from shared.rpc import Refused
from shared.telemetry import logger

if TYPE_CHECKING:
    import asyncpg

TOKEN_BYTES = 24
MOST_LOG_BYTES = 65_536
"""So much of a log's end is redacted, and then cut shorter: a secret that the cut would break in two is still known as one."""
MAX_LOG_BYTES = 10_240
STATE_LOG_BYTES = 1_024
"""So much of a log goes with the state into every checker's memory: the end, where the error stands."""
MAX_EXIT_CODE = 2**31 - 1
LONGEST_MS = 366 * 86_400_000
KEEP = timedelta(days=90)

SQL_WHOSE = """
select services.id
  from push_tokens join services on services.id = push_tokens.service_id
 where push_tokens.token_sha256 = $1 and services.kind = 'push' and services.removed_at is null
   and push_tokens.created_at >= services.created_at   -- the address of a removed service is not its successor's"""
SQL_HEAR = """
insert into push_signals (id, service_id, what, exit_code, duration_ms, log, at) values ($1, $2, $3, $4, $5, $6, least($7, now()))
on conflict do nothing returning at"""
SQL_NEXT_REVISION = "update push_revision set revision = revision + 1 returning revision"
STATE = "started_ms, succeeded_ms, failed_ms, exit_code, duration_ms, log"
SQL_STATE = f"select {STATE} from push_states where service_id = $1"
SQL_KEEP_STATE = f"""
insert into push_states (service_id, revision, {STATE}) values ($1, $2, $3, $4, $5, $6, $7, $8)
on conflict (service_id) do update set
    revision = excluded.revision, started_ms = excluded.started_ms, succeeded_ms = excluded.succeeded_ms, failed_ms = excluded.failed_ms,
    exit_code = excluded.exit_code, duration_ms = excluded.duration_ms, log = excluded.log"""
SQL_STATES_SINCE = f"select service_id, revision, {STATE} from push_states where revision > $1 order by revision"
# A checker's clock that is ahead puts no gap into the future.
SQL_HEARD = f"""
update push_hearing set heard_ms = greatest(heard_ms, at),
       gaps = case when heard_ms > 0 and at > heard_ms + {GAP_MS}
                   then (gaps || array[heard_ms, at])[greatest(1, cardinality(gaps) + 3 - {2 * MOST_GAPS}):] else gaps end
  from (select least($1, floor(extract(epoch from clock_timestamp()) * 1000)::bigint) as at) as present
returning gaps"""
SQL_SERVICE = "select kind from services where id = $1 and removed_at is null for share"
SQL_RENEW = """
insert into push_tokens (service_id, token_sha256) values ($1, $2)
on conflict (service_id) do update set token_sha256 = excluded.token_sha256, created_at = now()"""
SQL_FORGET = "delete from push_signals where received_at < $1"

log = logger(__name__)


async def record(conn: Connection, signal: PushSignal) -> str:
    """Write down what a job said; return the id of its service. The same signal again changes nothing. Raises `Refused`: 404 or 422."""
    if signal.exit_code is not None and abs(signal.exit_code) > MAX_EXIT_CODE:
        reason = FieldProblem(field="exit_code", reason=f"must be a whole number up to {MAX_EXIT_CODE}")
        raise Refused(Problem(title="Not valid", status=422, detail="The exit code cannot be one.", errors=(reason,)))
    service_id = await conn.fetchval(SQL_WHOSE, _hash(signal.token))
    if service_id is None:
        raise Refused(Problem(title="Not found", status=404, detail="No job has this address."))
    revision = await conn.fetchval(SQL_NEXT_REVISION)  # first of all: reports take turns, so that none is folded into an old state
    said = _end(redact(_end(signal.log.replace("\x00", ""), MOST_LOG_BYTES)), MAX_LOG_BYTES)
    duration = signal.duration_ms if signal.duration_ms is not None and 0 <= signal.duration_ms <= LONGEST_MS else None
    at = await conn.fetchval(SQL_HEAR, signal.id, service_id, signal.what, signal.exit_code, duration, said, signal.at)
    if at is None:
        return str(service_id)
    row = await conn.fetchrow(SQL_STATE, service_id)
    at_ms = int(at.timestamp() * 1000)
    one = Signal(signal.what, at_ms, signal.exit_code, duration, _end(said, STATE_LOG_BYTES))
    state = take(PushState() if row is None else _state(row), one)
    await conn.execute(SQL_KEEP_STATE, service_id, revision, *asdict(state).values())
    return str(service_id)


async def renew_token(conn: Connection, ref: ServiceRef) -> PushToken:
    """Give a job a new secret address; the old one is good no more. Raises `Refused`: 404, or 422 for a service of another kind."""
    kind = await conn.fetchval(SQL_SERVICE, ref.id)
    if kind is None:
        raise Refused(Problem(title="Not found", status=404, detail=f"There is no service {ref.id!r}."))
    if kind != "push":
        raise Refused(Problem(title="Not valid", status=422, detail=f"{ref.id} is checked by {kind}: only push has a secret address."))
    token = secrets.token_urlsafe(TOKEN_BYTES)
    await conn.execute(SQL_RENEW, ref.id, _hash(token))
    log.info("push address renewed", service_id=ref.id, actor=ref.actor)
    return PushToken(service_id=ref.id, token=token)


async def states_since(conn: Connection, revision: int) -> tuple[int, dict[str, PushState]]:
    """Return what changed after a revision, by service, and the newest revision: the same one if nothing did."""
    rows = await conn.fetch(SQL_STATES_SINCE, revision)
    return (rows[-1]["revision"] if rows else revision), {row["service_id"]: _state(row) for row in rows}


async def hear(conn: Connection, now_ms: int) -> list[Gap]:
    """Note that a report of this moment would be written down, and return when none would have been, oldest first."""
    found = await conn.fetchval(SQL_HEARD, now_ms)
    return list(zip(found[::2], found[1::2], strict=True))


async def forget_old(conn: Connection, now: datetime) -> int:
    """Drop the signals that are older than 90 days; states stay. Returns how many. To be called once a day."""
    return affected(await conn.execute(SQL_FORGET, now.astimezone(UTC) - KEEP))


def _state(row: "asyncpg.Record") -> PushState:
    return PushState(**{name: row[name] for name in STATE.split(", ")})


def _hash(token: str) -> bytes:
    # A plain hash will do: the token is 192 bits of chance, and nobody guesses those.
    return hashlib.sha256(token.encode(errors="replace")).digest()


def _end(text: str, most: int) -> str:
    """Return the end of a text, as far as it has room in so many bytes."""
    return text.encode(errors="replace")[-most:].decode(errors="ignore")
