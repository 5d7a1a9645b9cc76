"""SQL of SLA contracts and their exclusions."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from uuid import UUID
from zoneinfo import ZoneInfo

from asyncpg import Record

from services.aggregator.domain.accounting import Accounting
from services.aggregator.domain.contracts import Terms
from services.aggregator.domain.timeline import Span
from services.aggregator.store import slot_of
from shared.contracts.codes import SlaPeriod
from shared.contracts.history import RecordedExclusion
from shared.contracts.sla import SlaContract, SlaExclusion
from shared.database import Connection, affected

LISTED = 1_000
"""How many exclusions one answer names."""

_COLUMNS = """id, name, target, period, rolling_days, time_zone, services, partial_share, count_maintenance, count_unknown, version,
       judged_until, removed_at"""
SQL_PAGE = f"select {_COLUMNS} from sla_contract where removed_at is null and id > $1 order by id limit $2"
SQL_SOME = f"select {_COLUMNS} from sla_contract where id = any($1::text[]) order by id"
SQL_LOCK_SOME = f"{SQL_SOME} for no key update"
SQL_THEN = """
select v.contract_id as id, v.name, v.target, v.period, v.rolling_days, v.time_zone, v.services, v.partial_share, v.count_maintenance,
       v.count_unknown, v.version, c.judged_until, null::timestamptz as removed_at
  from sla_contract_version v join sla_contract c on c.id = v.contract_id
 where v.contract_id = $1 and v.known_from <= $2 order by v.version desc limit 1"""
SQL_EXCLUSIONS = """
select id, contract_id, starts_at, ends_at, reason, made_by, made_at from sla_exclusion
 where contract_id = any($1::text[])
   and ($2::timestamptz is null and revoked_at is null or made_at <= $2 and (revoked_at is null or revoked_at > $2))
 order by contract_id, starts_at, id"""
_EXCLUSION = "id, contract_id, starts_at, ends_at, reason, made_by, made_at, revoked_by, revoked_at, revoked_reason"
SQL_EVERY_EXCLUSION = f"select {_EXCLUSION} from sla_exclusion where contract_id = $1 order by made_at desc, id limit $2"
SQL_PUT = """
insert into sla_contract (id, name, target, period, rolling_days, time_zone, services, partial_share, count_maintenance, count_unknown,
                          judged_until, changed_by)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
    on conflict (id) do update
   set name = excluded.name, target = excluded.target, period = excluded.period, rolling_days = excluded.rolling_days,
       time_zone = excluded.time_zone, services = excluded.services, partial_share = excluded.partial_share,
       count_maintenance = excluded.count_maintenance, count_unknown = excluded.count_unknown, judged_until = excluded.judged_until,
       changed_by = excluded.changed_by, removed_at = null, version = sla_contract.version + 1"""
SQL_JUDGED = """
update sla_contract c set judged_until = given.judged_until
  from unnest($1::text[], $2::timestamptz[]) as given (id, judged_until) where c.id = given.id"""
SQL_REMOVE = "update sla_contract set removed_at = $2, changed_by = $3, version = version + 1 where id = $1 and removed_at is null"
SQL_EXCLUSION = f"select {_EXCLUSION} from sla_exclusion where id = $1"
SQL_REVOKE_EXCLUSION = """
update sla_exclusion set revoked_by = $2, revoked_at = $3, revoked_reason = $4 where id = $1 and revoked_at is null"""
SQL_EXCLUDE = """
insert into sla_exclusion (id, contract_id, starts_at, ends_at, reason, made_by, made_at) values ($1, $2, $3, $4, $5, $6, $7)"""
SQL_TOUCH = "update sla_contract set version = version + 1 where id = $1"
SQL_KEEP_VERSION = """
insert into sla_contract_version
select id, version, $2, name, target, period, rolling_days, time_zone, services, partial_share, count_maintenance, count_unknown
  from sla_contract where id = $1
    on conflict do nothing"""
SQL_KNOWN_SERVICES = "select id from service where id = any($1::text[]) and version > 0 and removed_at is null"


@dataclass(frozen=True, slots=True)
class Promise:
    """A contract as it is stored: as it is told, what follows from it, and up to when its months and quarters are judged."""

    contract: SlaContract
    terms: Terms
    judged_until: datetime
    removed_at: datetime | None

    @property
    def exclusions(self) -> list[Span]:
        """What it does not count, for `timeline.pieces`."""
        return [Span(slot_of(one.starts_at), slot_of(one.ends_at), str(one.id), one.reason) for one in self.contract.exclusions]

    @property
    def exclusion_ids(self) -> frozenset[str]:
        """The same, for `accounting.account`."""
        return frozenset(str(one.id) for one in self.contract.exclusions)


async def page(conn: Connection, *, after: str, limit: int) -> list[Promise]:
    """Return contracts that are not removed and come after an id, by id."""
    return await _with_exclusions(conn, await conn.fetch(SQL_PAGE, after, limit))


async def some(conn: Connection, ids: Iterable[str], *, lock: bool = False) -> list[Promise]:
    """Return contracts by id, removed ones too; those that do not exist are missing. `lock`: until the transaction ends."""
    return await _with_exclusions(conn, await conn.fetch(SQL_LOCK_SOME if lock else SQL_SOME, list(ids)))


async def find(conn: Connection, contract_id: str, *, lock: bool = False) -> Promise | None:
    """Return one contract, removed or not."""
    return next(iter(await some(conn, [contract_id], lock=lock)), None)


async def then(conn: Connection, contract_id: str, *, as_of: datetime) -> Promise | None:
    """Return one contract as it was known at a moment, with the exclusions that held then; None if it was not there yet."""
    return next(iter(await _with_exclusions(conn, await conn.fetch(SQL_THEN, contract_id, as_of), as_of=as_of)), None)


async def _with_exclusions(conn: Connection, rows: Sequence[Record], *, as_of: datetime | None = None) -> list[Promise]:
    exclusions: dict[str, list[SlaExclusion]] = defaultdict(list)
    for row in await conn.fetch(SQL_EXCLUSIONS, [row["id"] for row in rows], as_of):
        exclusions[row["contract_id"]].append(_exclusion(row))
    return [_promise(row, tuple(exclusions[row["id"]])) for row in rows]


def _exclusion(row: Record) -> SlaExclusion:
    fields = dict(row)
    del fields["contract_id"]
    return SlaExclusion(**fields)


def _recorded(row: Record) -> RecordedExclusion:
    fields = dict(row)
    del fields["contract_id"]
    return RecordedExclusion(**fields)


def _promise(row: Record, exclusions: tuple[SlaExclusion, ...]) -> Promise:
    fields = dict(row)
    judged_until, removed_at = fields.pop("judged_until"), fields.pop("removed_at")
    share = Fraction(row["partial_share"])
    accounting = Accounting(share, count_maintenance=row["count_maintenance"], count_unknown=row["count_unknown"])
    terms = Terms(Fraction(row["target"]) / 100, SlaPeriod(row["period"]), row["rolling_days"], ZoneInfo(row["time_zone"]), accounting)
    fields |= {"target": str(row["target"]), "partial_share": str(row["partial_share"]), "exclusions": exclusions}
    return Promise(SlaContract(**fields), terms, judged_until, removed_at)


async def put(conn: Connection, contract: SlaContract, *, now: datetime, actor: str) -> None:
    """Save what a contract says, as its next version; one that was removed is there again. Its exclusions stay.

    What ended by now is taken for judged.
    """
    one = contract
    counted = (Decimal(one.partial_share), one.count_maintenance, one.count_unknown)
    window = (one.period.value, one.rolling_days, one.time_zone, list(one.services))
    await conn.execute(SQL_PUT, one.id, one.name, Decimal(one.target), *window, *counted, now, actor)
    await conn.execute(SQL_KEEP_VERSION, one.id, now)


async def remove(conn: Connection, contract_id: str, *, actor: str, now: datetime) -> None:
    """Remove a contract; what was said of it stays."""
    await conn.execute(SQL_REMOVE, contract_id, now, actor)
    await conn.execute(SQL_KEEP_VERSION, contract_id, now)


async def judged(conn: Connection, ends: Mapping[str, datetime]) -> None:
    """Remember up to when contracts are judged, by id."""
    if ends:
        await conn.execute(SQL_JUDGED, list(ends), list(ends.values()))


async def find_exclusion(conn: Connection, exclusion_id: UUID) -> tuple[str, RecordedExclusion] | None:
    """Return an exclusion and the id of its contract."""
    row = await conn.fetchrow(SQL_EXCLUSION, exclusion_id)
    return None if row is None else (row["contract_id"], _recorded(row))


async def exclude(conn: Connection, contract_id: str, one: SlaExclusion) -> None:
    """Save an exclusion; it is the next version of its contract."""
    await conn.execute(SQL_EXCLUDE, one.id, contract_id, one.starts_at, one.ends_at, one.reason, one.made_by, one.made_at)
    await conn.execute(SQL_TOUCH, contract_id)
    await conn.execute(SQL_KEEP_VERSION, contract_id, one.made_at)


async def revoke_exclusion(conn: Connection, contract_id: str, exclusion_id: UUID, *, reason: str, actor: str, now: datetime) -> None:
    """Let an exclusion no longer hold, which is the next version of its contract. One that was revoked before stays as it was."""
    if affected(await conn.execute(SQL_REVOKE_EXCLUSION, exclusion_id, actor, now, reason)):
        await conn.execute(SQL_TOUCH, contract_id)
        await conn.execute(SQL_KEEP_VERSION, contract_id, now)


async def every_exclusion(conn: Connection, contract_id: str) -> list[RecordedExclusion]:
    """Return the newest exclusions of a contract, newest first, revoked ones too."""
    return [_recorded(row) for row in await conn.fetch(SQL_EVERY_EXCLUSION, contract_id, LISTED)]


async def missing_services(conn: Connection, service_ids: Iterable[str]) -> set[str]:
    """Return which of some services do not exist, or no longer."""
    wanted = set(service_ids)
    return wanted - {row["id"] for row in await conn.fetch(SQL_KNOWN_SERVICES, list(wanted))}
