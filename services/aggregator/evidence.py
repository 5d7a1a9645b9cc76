"""SQL of why statuses are what they are: the checks that verdicts rest on, and what was said of versions; of many services at once."""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from services.aggregator.store import moment
from shared.contracts.codes import ErrorType, Outcome
from shared.contracts.status import CheckEvidence, Evidence
from shared.database import Connection

# One look by index for each check that is asked for, whatever the planner expects of the lists. Served by api_response_times_by_service.
SQL_CHECKS = """
select found.id, asked.service_id, asked.region, asked.scheduled_at, outcome, status_code, error_type, error_message, response_time
  from unnest($1::text[], $2::text[], $3::timestamptz[]) as asked (service_id, region, scheduled_at)
 cross join lateral (
       select id, outcome, status_code, error_type, error_message, response_time from api_response_times c
        where c.service_id = asked.service_id and c.scheduled_at = asked.scheduled_at and c.region = asked.region
          and c.outcome <> 'unknown' and c.source = 'check'
        limit 1) found
 order by asked.scheduled_at, asked.region"""

SQL_SAID = """
select service_id, evidence from status_interval
  join unnest($1::text[], $2::integer[]) as asked (service_id, version) using (service_id, version)"""


async def checks(conn: Connection, proofs: Mapping[str, Sequence[tuple[str, int]]]) -> dict[str, tuple[CheckEvidence, ...]]:
    """Return the checks of some (region, slot) pairs of services, by service, oldest first."""
    asked = [(service_id, region, moment(slot)) for service_id, proof in proofs.items() for region, slot in proof]
    found = defaultdict[str, list[CheckEvidence]](list)
    for row in await conn.fetch(SQL_CHECKS, *([one[place] for one in asked] for place in range(3))) if asked else ():
        found[row["service_id"]].append(
            CheckEvidence(
                id=row["id"],
                region=row["region"],
                scheduled_at=row["scheduled_at"],
                outcome=Outcome(row["outcome"]),
                status_code=row["status_code"],
                error_type=None if row["error_type"] is None else ErrorType(row["error_type"]),
                error_message=row["error_message"],
                response_time_ms=row["response_time"],
            )
        )
    return {service_id: tuple(found[service_id]) for service_id in proofs}


async def said(conn: Connection, versions: Mapping[str, int]) -> dict[str, Evidence]:
    """Return what was said of a version of each service's status."""
    rows = await conn.fetch(SQL_SAID, list(versions), list(versions.values())) if versions else ()
    return {row["service_id"]: Evidence.model_validate(row["evidence"]) for row in rows}
