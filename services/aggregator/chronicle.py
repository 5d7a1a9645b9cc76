"""Statuses of the past as they were told, each with its evidence. Unlike timelines they are never amended: what was said was said."""

from datetime import timedelta

from services.aggregator import store
from shared.contracts.codes import Status
from shared.contracts.commands import FieldProblem, Problem
from shared.contracts.history import Period, StatusHistory, StatusInterval
from shared.contracts.status import Evidence
from shared.database import Connection
from shared.rpc import Refused

LONGEST = timedelta(days=400)
MOST = 500
"""Evidence is long: more in one answer would be megabytes."""

# The newest that began before the time is looked up first, so that years of older ones are not read; served by status_interval_by_time.
SQL_INTERVALS = """
select version, status, started_at, ended_at, detected_at, evidence, degraded, maintenance, flapping, muted_by
  from status_interval
 where service_id = $1 and started_at < $3 and (ended_at is null or ended_at > $2 or started_at >= $2)
   and started_at >= (select coalesce(max(b.started_at), '-infinity') from status_interval b
                       where b.service_id = $1 and b.started_at <= $2)
 order by version
 limit $4"""


async def read(conn: Connection, period: Period) -> StatusHistory:
    """Return the statuses that touch a time, oldest first, uncut. Raises `Refused`: 404, 422 for too long a time or too many."""
    if await store.find_service(conn, period.service_id) is None:
        raise Refused(Problem(title="Not found", status=404, detail=f"There is no service {period.service_id!r}."))
    if period.ends_at <= period.starts_at:
        raise _not_valid(reason="must be after starts_at")
    if period.ends_at - period.starts_at > LONGEST:
        raise _not_valid(reason=f"at most {LONGEST.days} days after starts_at")
    rows = await conn.fetch(SQL_INTERVALS, period.service_id, period.starts_at, period.ends_at, MOST + 1)
    if len(rows) > MOST:
        raise _not_valid(reason=f"more than {MOST} intervals: ask for a shorter time")
    told = [dict(row) | {"status": Status(row["status"]), "evidence": Evidence.model_validate(row["evidence"])} for row in rows]
    return StatusHistory(service_id=period.service_id, intervals=tuple(StatusInterval(**one) for one in told))


def _not_valid(*, reason: str) -> Refused:
    problem = FieldProblem(field="ends_at", reason=reason)
    return Refused(Problem(title="Not valid", status=422, detail="Some fields cannot be used.", errors=(problem,)))
