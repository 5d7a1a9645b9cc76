"""Timelines computed from the checks themselves: by the worker from a checkpoint on, and by a dry run with other rules.

Checks are read in pieces, so neither memory nor the event loop is held by ninety days of them; nor is their table, of which old months are
to be dropped meanwhile.
"""

import asyncio
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from operator import attrgetter

from asyncpg import Record
from prometheus_client import Counter, Histogram

from services.aggregator import partitions, rollups, timelines
from services.aggregator.domain.amending import Row, amended, rows
from services.aggregator.domain.courses import Checkpoint, Rules, Stretch, combined, extended, pause_edge, region_stretches
from services.aggregator.domain.verdict import Observation
from services.aggregator.store import moment, slot_of
from services.aggregator.timelines import Claim
from shared.clock import Clock
from shared.contracts.codes import Outcome
from shared.database import Connection, Pool, transaction

AMENDED = Counter("sla_aggregator_timeline_rows_total", "Rows of timelines that were written, and that were no longer believed", ["what"])
SECONDS = Histogram("sla_aggregator_timeline_seconds", "Time to compute the timeline of one service again")
AT_ONCE = 50
"""Services looked up together; each is computed in a transaction of its own."""
PIECE = 1_000
"""Checks read at once: some milliseconds of computing, some dozen where every one of them turns its region."""

# Confirmations too: they decide the status. Whole moments, so that the next piece begins after the last. Served by
# api_response_times_by_service.
_OUTCOMES = """
select region, scheduled_at, {outcome}, response_time from api_response_times
 where service_id = $1 and scheduled_at > $2 and scheduled_at <= $3 and source = 'check' and outcome <> 'unknown'
   and ($4::text[] is null or region = any($4))
 order by scheduled_at fetch first $5 rows with ties"""
SQL_OUTCOMES = _OUTCOMES.format(outcome="outcome")
# What is degraded for being slow alone, by the limit of then (assertions/judging.py of the checker), is taken for the answer that it was.
SQL_OUTCOMES_OF_ANY_SPEED = _OUTCOMES.format(
    outcome="""case when outcome = 'degraded' and error_type = 'assertion_failed' and error_message like 'slower than %'
                  and not metadata ? 'assertions' then 'healthy' else outcome end"""
)
SQL_REGIONS = """
select region, slots = '{}' or silent_at is not distinct from newest_at as silent, newest_at from region_state where service_id = $1"""
SQL_PUBLISHED_BEFORE = "select exists (select from timeline where service_id = $1 and known_until is null and started_at < $2)"


@dataclass(slots=True)
class Track:
    """One region while it is computed: where it stands, and what was found so far."""

    begin: Checkpoint = field(default_factory=Checkpoint)
    at: Checkpoint = field(init=False)
    stretches: list[Stretch] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin."""
        self.at = self.begin

    def go_on(self, seen: Sequence[Observation], rules: Sequence[Rules], *, until: int, silent: bool = False) -> None:
        """Take the next outcomes."""
        more, points = region_stretches(seen, rules, begin=self.at, until=until, silent=silent)
        joint = max(0, bisect_left(self.stretches, more[0].start, key=attrgetter("start")) - 1)
        self.stretches[joint:] = extended(self.stretches[joint:], more)
        self.checkpoints += points
        self.at = points[-1]

    def end(self, rules: Sequence[Rules], *, until: int, silent: bool, surely: bool) -> None:
        """Come to the end. Not `surely`: what did not come may still come, so that only who `silent` is known to be is unknown.

        Of a service that was switched off since, nobody says that it is silent: there, what did not come by now was not measured.
        """
        last = until
        if not surely and not silent and self.at.slot >= 0 and pause_edge(rules, self.at.slot, until) is None:
            last = self.at.slot + 1
        self.go_on((), rules, until=last, silent=silent)
        tail = self.stretches[-1]
        self.stretches[-1] = Stretch(tail.start, max(tail.end, until), tail.view)


async def replay(
    conn: Connection,
    service_id: str,
    rules: Sequence[Rules],
    tracks: Mapping[str, Track],
    *,
    after: int,
    until: int,
    newest: Mapping[str, int] | None = None,
    degraded_after_ms: int | None = None,
    regions: Collection[str] = (),
) -> dict[str, Track]:
    """Take every known outcome with a slot after `after`, up to `until`, each region from where its track begins. In a transaction.

    `newest`: up to which slot to take those of a region, where every piece is read as of a moment of its own. `degraded_after_ms`: how
    long an answer may take, whatever held then. `regions`: only of these, unless empty.
    """
    found = defaultdict(Track, tracks)
    ends = newest or {}
    sql = SQL_OUTCOMES if degraded_after_ms is None else SQL_OUTCOMES_OF_ANY_SPEED
    at, end, only = moment(after), moment(until), list(regions) or None
    while piece := await _letting_go(conn, sql, service_id, at, end, only, PIECE):
        for region, outcomes in _seen(piece, degraded_after_ms).items():
            track = found[region]
            new = [one for one in outcomes if track.at.slot < one.slot <= ends.get(region, one.slot)]
            if new:
                track.go_on(new, rules, until=new[-1].slot + 1)
                await asyncio.sleep(0)  # others have their turn
        at = piece[-1]["scheduled_at"]
    return found


async def _letting_go(conn: Connection, sql: str, *values: object) -> list[Record]:
    """Read, and hold nothing of what was read any longer: what was locked after a savepoint is let go when that is gone back to.

    Until the end of a long transaction, no old month of checks could be dropped.
    """
    reading = conn.transaction()
    await reading.start()
    try:
        return await conn.fetch(sql, *values)
    finally:
        await reading.rollback()


def _seen(piece: Iterable[Record], degraded_after_ms: int | None) -> dict[str, list[Observation]]:
    """Return outcomes by region, in their order."""
    seen: dict[str, list[Observation]] = defaultdict(list)
    for region, at, outcome, took in piece:
        slow = degraded_after_ms is not None and took is not None and took > degraded_after_ms
        seen[region].append(Observation(slot_of(at), outcome != Outcome.FAILED, outcome == Outcome.DEGRADED or slow))
    return seen


async def silent_regions(conn: Connection, service_id: str) -> dict[str, bool]:
    """Return the regions of a service, and whether nothing is known from there any more."""
    return {row["region"]: row["silent"] for row in await conn.fetch(SQL_REGIONS, service_id)}


async def work(pool: Pool, *, clock: Clock, limit: int = AT_ONCE) -> int:
    """Compute the timelines that are waiting, at most `limit`; return how many were. Replicas share them."""
    async with pool.acquire() as conn:
        services = await timelines.waiting(conn, now=clock(), limit=limit)
    done = 0
    for service_id in services:
        async with transaction(pool) as conn:
            await rollups.stand_aside(conn)
            claim = await timelines.claim(conn, service_id)
            if claim is not None:
                with SECONDS.time():
                    await advance(conn, claim, clock=clock)
                done += 1
    return done


@dataclass(frozen=True, slots=True)
class Begin:
    """Where to compute from: the state from `start` on, each region from its checkpoint, of the outcomes after a slot."""

    start: int
    points: Mapping[str, Checkpoint]
    after: int


def _begin(points: Mapping[str, Sequence[Checkpoint]], from_slot: int, *, first: int, floor: int | None) -> Begin:
    """Return the latest beginning that an outcome of `from_slot` cannot reach behind: a turn dates back to the first of its streak.

    A region without any checkpoint was never heard of before `from_slot`. At the `floor` it goes on as it stood there.
    """
    from_slot = from_slot if floor is None else max(from_slot, floor)
    before = {region: [one for one in own if one.slot < from_slot] for region, own in points.items()}
    settled = [before[region][-1].settled_before if before[region] else first for region, own in points.items() if own]
    start = max(first, min([from_slot, *settled]), first if floor is None else floor)
    chosen = {region: next((one for one in reversed(own) if one.settled_before <= start), Checkpoint()) for region, own in before.items()}
    read_from = [one.slot if one.slot >= 0 or points[region] else from_slot - 1 for region, one in chosen.items()]
    return Begin(start, chosen, min([from_slot - 1, *read_from]))


async def _floor(conn: Connection, service_id: str, oldest: datetime | None) -> int | None:
    """Return the moment before which nothing may be computed again, as its checks are gone; None if all are there."""
    if oldest is None or not await conn.fetchval(SQL_PUBLISHED_BEFORE, service_id, oldest):
        return None
    return slot_of(oldest)


@dataclass(frozen=True, slots=True)
class Found:
    """What was computed: each region up to `until`, the whole from `start` on, and before what it could not be (`floor`)."""

    tracks: Mapping[str, Track]
    start: int
    until: int
    floor: int | None


async def advance(conn: Connection, claim: Claim, *, clock: Clock) -> None:
    """Bring one service's timeline up to what is stored now. What lies before the oldest months of checks stays as it was published."""
    now = clock()
    service_id, now_ms = claim.service_id, slot_of(now)
    await timelines.be_due(conn, service_id, now=now)
    rules = await timelines.rules(conn, service_id)
    if not rules:
        return  # its definition marks it anew
    found = await _found(conn, claim, rules, now_ms=now_ms)
    made = {region: (track.begin, track.checkpoints) for region, track in found.tracks.items()}
    await timelines.save_checkpoints(conn, service_id, made, now_ms=now_ms)
    if claim.from_slot is None:
        await timelines.thin_checkpoints(conn, service_id, now_ms=now_ms, floor=found.floor)
    published, known_from = await timelines.believed(conn, service_id, since=found.start)
    gone, new = await asyncio.to_thread(_amended, published, found, rules)
    known_now = clock()  # not when computing began: who asked meanwhile was told what was believed until now
    await timelines.publish(conn, service_id, gone, new, now=max(known_now, known_from or known_now))
    AMENDED.labels("new").inc(len(new))
    AMENDED.labels("gone").inc(len(gone))


async def _found(conn: Connection, claim: Claim, rules: Sequence[Rules], *, now_ms: int) -> Found:
    """Compute from the checks; once more if a month of them was dropped meanwhile."""
    oldest = await partitions.oldest(conn)
    while True:
        found = await _computed(conn, claim, rules, now_ms=now_ms, oldest=oldest)
        before, oldest = oldest, await partitions.oldest(conn)
        if oldest == before:
            return found


async def _computed(conn: Connection, claim: Claim, rules: Sequence[Rules], *, now_ms: int, oldest: datetime | None) -> Found:
    """Compute once. Of what is folded meanwhile, nothing is taken: it is marked itself, unless nothing follows from it."""
    floor = await _floor(conn, claim.service_id, oldest)
    heard = await conn.fetch(SQL_REGIONS, claim.service_id)
    silent = {row["region"]: row["silent"] for row in heard}
    newest = {row["region"]: slot_of(row["newest_at"]) for row in heard}
    points = {region: list[Checkpoint]() for region in silent} | await timelines.checkpoints(conn, claim.service_id)
    begin = _begin(points, now_ms if claim.from_slot is None else min(claim.from_slot, now_ms), first=rules[0].since, floor=floor)
    tracks = {region: Track(one) for region, one in begin.points.items()}
    until = max(now_ms, *newest.values(), rules[0].since) + 1
    found = await replay(conn, claim.service_id, rules, tracks, after=begin.after, until=until, newest=newest)
    for region, track in found.items():
        track.end(rules, until=until, silent=silent.get(region, False), surely=False)
    return Found(found, begin.start, until, floor)


def _amended(published: Sequence[Row], found: Found, rules: Sequence[Rules]) -> tuple[list[Row], list[Row]]:
    """Return which rows are no longer believed, and which are new."""
    regions = {region: track.stretches for region, track in found.tracks.items()}
    return amended(published, rows(combined(regions, rules, start=found.start, until=found.until)), since=found.start)
