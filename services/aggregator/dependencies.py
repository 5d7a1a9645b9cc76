"""SQL of what services depend on: which of that is down, and which may be what is wrong though it is not down.

Two services of which one depends on the other are checked at different moments, and each is confirmed after some checks. So the dependent
may still be down when what it depends on is up again, and may be confirmed first when both fail. In both cases it is given a fair chance:

- When a dependency stops being down, a dependent that is still not well alerts nobody for as long as its own checks need to see that it
  works again: `recovery_threshold` intervals, a timeout and `ON_THE_WAY`. What began to fail after that moment alerts at once.
- When a service stops being well while checks of a dependency fail that are not confirmed yet, it alerts nobody until that failing ends,
  at most as long as the dependency's checks need to confirm it: `failure_threshold` intervals, a timeout and `ON_THE_WAY`.

Each chance is a row of `recheck` with the moment when it is over: nothing waits in memory.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta

from services.aggregator import store
from services.aggregator.domain import verdict
from services.aggregator.store import Service
from shared.database import Connection

ON_THE_WAY = timedelta(seconds=5)
"""How long results may take from their check to here."""

SQL_DOWN = "select service_id from status_interval where ended_at is null and status = 'mo' and service_id = any($1::text[])"

SQL_ASK_DEPENDENTS = "insert into recheck (service_id) select id from service where depends_on && $1::text[] order by id"
SQL_SPARE_DEPENDENTS = """
insert into recheck (service_id, dependency, asked_at, due_at)
select id, back, $2::timestamptz,
       $2::timestamptz + (recovery_threshold * check_interval::bigint + timeout) * interval '1 millisecond' + $3::interval
  from service cross join unnest($1::text[]) as back where depends_on @> array[back] order by id"""
SQL_SUSPECT = """
insert into recheck (service_id, dependency, asked_at, due_at, suspected)
select given.service_id, id, $3::timestamptz,
       $3::timestamptz + (failure_threshold * check_interval::bigint + timeout) * interval '1 millisecond' + $4::interval, true
  from unnest($1::text[], $2::text[]) as given (service_id, dependency) join service on id = given.dependency"""
SQL_ASK_WAITING = (
    "insert into recheck (service_id) select distinct service_id from recheck where suspected and dependency = any($1::text[])"
)
SQL_WAITING = """
select service_id, dependency, suspected, asked_at from recheck
 where service_id = any($1::text[]) and dependency is not null and due_at > $2"""


async def down(conn: Connection, names: Collection[str]) -> set[str]:
    """Return those services that are down by what is written."""
    return {row["service_id"] for row in await conn.fetch(SQL_DOWN, list(names))} if names else set()


async def ask_dependents(conn: Connection, fallen: Sequence[str], back: Sequence[str], *, now: datetime) -> None:
    """Have every service judged again that depends on one of these, at once, and on one that is back also after its fair chance."""
    await conn.execute(SQL_ASK_DEPENDENTS, [*fallen, *back])
    if back:
        await conn.execute(SQL_SPARE_DEPENDENTS, back, now, ON_THE_WAY)


async def ask_waiting(conn: Connection, service_ids: Iterable[str]) -> None:
    """Have those judged again that wait to see whether one of these goes down: of these something was heard, or no more.

    Not where services are only judged again: two that wait for each other would ask each other without an end.
    """
    await conn.execute(SQL_ASK_WAITING, list(service_ids))


async def possible_causes(
    conn: Connection, services: Sequence[Service], untold: Mapping[str, datetime | None], *, back: Collection[str], now: datetime
) -> dict[str, str]:
    """Return by service the dependency that may be what is wrong with it, of those for whose sake it is to be given a chance.

    `untold`: the services that are not well and that nobody was alerted of, with when they began to fail; None where they were so before.
    One that was so before waits no longer than was said then. `back`: what is down no more just now; `ask_dependents` follows.
    """
    asking = {one.id: one for one in services if one.id in untold and one.depends_on}
    if not asking:
        return {}
    failing = await _failing(conn, {name for one in asking.values() for name in one.depends_on})
    found = {name: other for name, one in asking.items() if (other := next((other for other in one.depends_on if other in back), None))}
    for row in await conn.fetch(SQL_WAITING, list(asking), now):
        name, dependency, began = row["service_id"], row["dependency"], untold[row["service_id"]]
        holds = dependency in failing if row["suspected"] else began is None or began <= row["asked_at"]
        if holds and dependency in asking[name].depends_on:
            found.setdefault(name, dependency)
    begun = {name: next((other for other in one.depends_on if other in failing), None) for name, one in asking.items() if untold[name]}
    new = {name: dependency for name, dependency in begun.items() if dependency and name not in found}
    if new:
        await conn.execute(SQL_SUSPECT, list(new), list(new.values()), now, ON_THE_WAY)
    return found | new


async def _failing(conn: Connection, names: Collection[str]) -> set[str]:
    """Return those services of which a region that was not down failed last. They are read as they are written, and not locked."""
    services = [one for one in await store.find_services(conn, names) if one.is_watched]
    regions = await store.regions(conn, [one.id for one in services])
    return {one.id for one in services if any(verdict.is_failing(region, one.thresholds) for region in one.judged(regions[one.id]))}
