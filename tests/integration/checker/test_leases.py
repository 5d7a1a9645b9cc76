"""Leases in a real database: fair shares, one holder each, and what is handed on at every move."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from services.checker import leases
from services.checker.leases import SETTLED_MS, TTL_S, Leases
from shared.database import Connection, Pool, open_pool, transaction
from shared.health import Health
from tests.servers import Database

NOW = datetime(2026, 5, 17, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)
DONE_MS = NOW_MS - 7


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with open_pool(database.url("checker"), name="test", health=Health("test")) as opened:
        yield opened


@dataclass
class Checker:
    """One process: its leases, what it was told to hold, and a clock of its own for how long it was away."""

    pool: Pool
    name: str
    region: str = "seoul"
    passed_s: float = 0.0
    holds: dict[int, int] = field(default_factory=dict)
    gave_up: list[set[int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.leases = Leases(
            self.pool,
            region=self.region,
            checker=self.name,
            holder=self,
            clock=lambda: NOW,
            since=lambda: self.passed_s,
            new_name=lambda: "anew",
        )

    def hold(self, shards: Mapping[int, int]) -> None:
        self.holds = dict(shards)

    async def give_up(self, shards: Collection[int], within_s: float) -> Mapping[int, int]:
        assert within_s > 0
        self.gave_up.append(set(shards))
        assert await self.pool.fetchval("select count(*) from shard_leases where holder = $1", self.name) == len(self.holds), "not yet free"
        self.holds = {shard: done for shard, done in self.holds.items() if shard not in shards}
        return dict.fromkeys(shards, DONE_MS)

    async def tick(self) -> None:
        self.passed_s += 0.5
        await self.leases.tick()


async def ticks(checkers: list[Checker], times: int) -> None:
    for _ in range(times):
        await asyncio.gather(*(one.tick() for one in checkers))


async def holders(pool: Pool, region: str = "seoul") -> Counter[str | None]:
    return Counter([row["holder"] for row in await pool.fetch("select holder from shard_leases where region = $1", region)])


async def silence(pool: Pool, *names: str, seconds: float = TTL_S + 1) -> None:
    """Let some time of the database's clock pass for these."""
    await pool.execute("update checkers set seen_at = seen_at - make_interval(secs => $2) where checker = any($1)", list(names), seconds)


async def test_a_beginning_that_was_not_committed_is_made_again_under_the_same_name(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red with the moment of entering kept though the table does not have it: the next tick took itself for another process."""

    @asynccontextmanager
    async def never_committed(pool: Pool) -> AsyncIterator[Connection]:
        async with transaction(pool) as conn:
            yield conn
            raise ConnectionResetError

    one = Checker(pool, "checker-0")
    with monkeypatch.context() as patched:
        patched.setattr(leases, "transaction", never_committed)
        with pytest.raises(ConnectionResetError):
            await one.tick()
    await ticks([one], 2)
    assert [row["checker"] for row in await pool.fetch("select checker from checkers")] == ["checker-0"]


async def test_shards_are_shared_fairly_and_each_has_one_holder(pool: Pool) -> None:
    checkers = [Checker(pool, f"checker-{number}") for number in range(4)]
    await checkers[0].tick()
    assert await holders(pool) == {"checker-0": 256}
    await ticks(checkers[:3], 4)
    assert sorted((await holders(pool)).values()) == [85, 85, 86]
    await ticks(checkers, 4)
    assert await holders(pool) == {one.name: 64 for one in checkers}
    held = [shard for one in checkers for shard in one.holds]
    assert sorted(held) == list(range(256))
    moves = [len(one.gave_up) for one in checkers]
    await ticks(checkers, 3)
    assert [len(one.gave_up) for one in checkers] == moves, "at rest nothing moves"


async def test_regions_do_not_know_each_other(pool: Pool) -> None:
    seoul, tokyo = Checker(pool, "one"), Checker(pool, "one", region="tokyo")
    await ticks([seoul, tokyo], 2)
    assert await holders(pool) == await holders(pool, "tokyo") == {"one": 256}


async def test_who_takes_what_was_given_up_begins_after_what_was_done(pool: Pool) -> None:
    """Seen red with a release that keeps the old `covered_until`."""
    first, second = Checker(pool, "first"), Checker(pool, "second")
    await first.tick()
    await second.tick()
    assert second.holds == {}
    await first.tick()
    await second.tick()
    assert len(second.holds) == len(first.holds) == 128
    assert set(second.holds.values()) == {DONE_MS}


async def test_a_dead_ones_shards_are_taken_once_it_was_silent_for_long_enough(pool: Pool) -> None:
    """From its last word on, less the time in which a check settles. Seen red with the TTL compared the other way round."""
    dead, heir = Checker(pool, "dead"), Checker(pool, "heir")
    await ticks([dead, heir], 4)
    mine = set(heir.holds)
    await silence(pool, "dead", seconds=TTL_S - 1)
    await ticks([heir], 8)
    assert set(heir.holds) == mine, "not silent for long enough, and not watched for long enough"
    await silence(pool, "dead")
    await ticks([heir], 4)
    assert len(heir.holds) == 256
    await dead.tick()
    assert dead.holds == {}, "what is another's is dropped at once"
    await ticks([heir, dead], 3)
    assert len(dead.holds) == 128


async def test_what_a_dead_one_held_goes_on_from_its_last_word(pool: Pool) -> None:
    dead, heir = Checker(pool, "dead"), Checker(pool, "heir")
    await ticks([dead], 3)
    await pool.execute("update shard_leases set taken_at = $1 where shard < 10", NOW_MS - SETTLED_MS - 1)  # held when it spoke last
    await ticks([heir], 12)
    await silence(pool, "dead")
    await heir.tick()
    assert {done for shard, done in heir.holds.items() if shard < 10} == {NOW_MS - SETTLED_MS}
    assert {done for shard, done in heir.holds.items() if shard >= 10} == {0}, "it had just taken these: its word was not for them"


async def test_whoever_was_away_itself_takes_nobody_for_dead_before_a_whole_ttl(pool: Pool) -> None:
    """After an outage of the database the first one back would take everything. Seen red without the rule."""
    checkers = [Checker(pool, f"checker-{number}") for number in range(3)]
    await ticks(checkers, 14)
    before = {one.name: set(one.holds) for one in checkers}
    await silence(pool, *before, seconds=600)
    for one in checkers:
        one.passed_s += 600
    await ticks(checkers[:1], 9)
    assert set(checkers[0].holds) == before["checker-0"]
    await ticks(checkers, 3)
    assert {one.name: set(one.holds) for one in checkers} == before


async def test_one_that_is_just_coming_back_is_passed_by(pool: Pool) -> None:
    """Seen red without `for update skip locked`: who had renewed, uncommitted, lost its shards."""
    back, other = Checker(pool, "back"), Checker(pool, "other")
    await ticks([back, other], 14)
    await silence(pool, "back")
    async with pool.acquire() as conn, conn.transaction():
        await conn.execute("update checkers set seen_at = clock_timestamp() where checker = 'back'")
        await ticks([other], 1)
    await ticks([back, other], 1)
    assert len(back.holds) == len(other.holds) == 128


async def test_who_leaves_is_not_waited_for(pool: Pool) -> None:
    gone, stays = Checker(pool, "gone"), Checker(pool, "stays")
    await ticks([gone, stays], 4)
    await gone.leases.leave()
    await stays.tick()
    assert len(stays.holds) == 256
    assert await pool.fetchval("select count(*) from checkers") == 1
    assert {done for done in stays.holds.values() if done} == {DONE_MS}


async def test_a_restart_on_the_same_spool_has_its_shards_at_once(pool: Pool) -> None:
    before, other = Checker(pool, "same"), Checker(pool, "other")
    await ticks([before, other], 4)
    await pool.execute("update shard_leases set taken_at = 0")
    after = Checker(pool, "same")
    await after.tick()
    assert set(after.holds) == set(before.holds)
    assert set(after.holds.values()) == {NOW_MS - SETTLED_MS}, "from the last word of the process before"


async def test_two_that_go_by_one_name_part(pool: Pool) -> None:
    """A spool that was copied with its disk. Seen red without comparing the start: both held everything, for ever."""
    original, copy = Checker(pool, "same"), Checker(pool, "same")
    await original.tick()
    await copy.tick()
    await original.tick()
    assert original.holds == {}
    await copy.tick()
    await original.tick()
    assert len(original.holds) == len(copy.holds) == 128
    assert await holders(pool) == {"same": 128, "same+anew": 128}


@pytest.mark.parametrize("error", [ConnectionResetError, TimeoutError, asyncio.CancelledError])
async def test_shards_that_cannot_be_given_back_are_checked_on(
    pool: Pool, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    """Seen red without holding them again: nobody checked them until the database was back, however long that took."""
    first, second = Checker(pool, "first"), Checker(pool, "second")
    await first.tick()
    await second.tick()

    async def refuse(_conn: Connection, _done: Mapping[int, int]) -> None:
        raise error

    with monkeypatch.context() as away:
        away.setattr(first.leases, "_free", refuse)
        with pytest.raises(error):
            await first.tick()
    assert len(first.gave_up) == 1
    assert set(first.holds) == first.leases.held == set(range(256))
    await ticks([first, second], 2)
    assert len(first.holds) == len(second.holds) == 128


async def test_old_rows_of_the_dead_go(pool: Pool) -> None:
    dead = Checker(pool, "dead")
    await dead.tick()
    await pool.execute("update shard_leases set holder = null")
    await silence(pool, "dead", seconds=4000)
    await Checker(pool, "new").tick()
    assert [row["checker"] for row in await pool.fetch("select checker from checkers")] == ["new"]
