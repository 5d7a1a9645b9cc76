"""From the tables to the scheduler: pages, regions, what cannot be read, what is remembered, and a database that went back in time."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import SecretStr

from services.checker import changes, store
from services.checker.catalog import Catalog, Unreadable, recall
from services.checker.domain.definition import Definition
from services.checker.domain.known import MOST_GAPS, Gap, Known
from services.checker.domain.shards import SHARDS, shard_of
from services.checker.domain.target import Target
from services.checker.remembered import Remembered
from services.checker.roster import RESUMED_MS, Roster
from services.checker.scheduler import Scheduler
from services.checker.secrets import Sealer
from shared.database import Pool, open_pool, transaction
from shared.health import Health
from tests.servers import Database

ALL = dict.fromkeys(range(SHARDS), 0)
NOW = datetime(2026, 5, 17, 12, 0, tzinfo=UTC)
NOW_MS = int(NOW.timestamp() * 1000)


class Scheduled(Scheduler):
    """Remembers what it was told, and starts nothing."""

    def __init__(self) -> None:
        self.targets: dict[str, Target] = {}
        self.done: dict[str, int] = {}
        self.hastened: list[str] = []
        self.told = 0

    def apply(self, targets: Iterable[Target], gone: Iterable[str], *, done_ms: Mapping[str, int] | None = None) -> None:
        for service_id in gone:
            del self.targets[service_id]
        for target in targets:
            self.targets[target.id] = target
            self.told += 1
        self.done.update(done_ms or {})

    def hasten(self, ids: Iterable[str]) -> None:
        self.hastened += ids

    async def released(self, ids: Iterable[str], within_s: float) -> int:
        assert within_s
        self.apply((), ids)
        return NOW_MS - 1


class Rig:
    """A catalog, with all that it feeds."""

    def __init__(self, pool: Pool, folder: Path, *, sealer: Sealer | None = None) -> None:
        self.scheduler = Scheduled()
        self.memory = Remembered(folder / "remembered.sqlite3", region="seoul", new_name="checker-1", clock=lambda: NOW)
        self.roster = Roster(self.scheduler, lambda: NOW, note_shards=self.memory.note_shards)
        self.known = Known()
        self.heard = True
        self.now = NOW
        self.sealer = sealer or Sealer()
        self.catalog = Catalog(
            pool,
            self.roster,
            region="seoul",
            sealer=self.sealer,
            known=self.known,
            memory=self.memory,
            clock=lambda: self.now,
            woken=asyncio.Event(),
            hears=self.hears,
        )

    async def hears(self) -> bool:
        return self.heard

    @property
    def checked(self) -> set[str]:
        return set(self.scheduler.targets)


@pytest.fixture
async def pool(database: Database) -> AsyncIterator[Pool]:
    async with open_pool(database.url("checker"), name="test", health=Health("test")) as opened:
        yield opened


@pytest.fixture
async def rig(pool: Pool, tmp_path: Path) -> Rig:
    return Rig(pool, tmp_path)


async def save(pool: Pool, *ids: str, **fields: Any) -> None:  # noqa: ANN401  # JSON
    async with transaction(pool) as conn:
        wanted = [Definition(one, one, one, "https://api.example.com/", **fields) for one in ids]
        await store.save(conn, wanted, revision_=await store.next_revision(conn))


async def test_definitions_come_in_pages_though_all_have_one_revision(pool: Pool, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red with pages cut by revision alone: what shared the last one's revision never came."""
    monkeypatch.setattr(changes, "PAGE", 3)
    names = {f"service-{number}" for number in range(10)}
    await save(pool, *names)
    rig.roster.hold(ALL)
    await rig.catalog.refresh()
    assert rig.checked == names
    await save(pool, "later")
    await rig.catalog.refresh()
    assert rig.checked == {*names, "later"}
    assert rig.scheduler.told == 11, "each once"


async def test_only_what_is_wanted_here_is_checked(pool: Pool, rig: Rig) -> None:
    await save(pool, "everywhere", "moves", "stops", "goes")
    await save(pool, "here", regions=("tokyo", "seoul"))
    await save(pool, "elsewhere", regions=("tokyo",))
    await save(pool, "idle", is_active=False)
    rig.roster.hold(ALL)
    await rig.catalog.refresh()
    assert rig.checked == {"everywhere", "here", "moves", "stops", "goes"}
    await save(pool, "moves", regions=("tokyo",))
    await save(pool, "stops", is_active=False)
    async with transaction(pool) as conn:
        await store.remove(conn, ["goes"], revision_=await store.next_revision(conn))
    await rig.catalog.refresh()
    assert rig.checked == {"everywhere", "here"}


async def test_shards_that_are_not_held_are_known_and_not_checked(pool: Pool, rig: Rig) -> None:
    await save(pool, "one", "two")
    rig.roster.hold({shard_of("one"): 0})
    await rig.catalog.refresh()
    assert rig.checked == {"one"}
    rig.roster.hold({shard_of("two"): NOW_MS - 900})
    assert rig.checked == {"two"}
    assert rig.scheduler.done == {"two": NOW_MS - 900}
    assert await rig.roster.give_up([shard_of("two")], 1.0) == {shard_of("two"): NOW_MS - 1}
    assert rig.checked == set()
    rig.roster.hold({shard_of("two"): 0})  # it could not be written down that it was given up
    assert rig.scheduler.done == {"two": NOW_MS - 1}


async def test_what_lay_idle_for_long_is_begun_anew(pool: Pool, rig: Rig) -> None:
    await save(pool, "short", check_interval=10_000)
    await save(pool, "long", check_interval=3_600_000)
    await save(pool, "ahead")
    await rig.catalog.refresh()
    rig.roster.hold(dict.fromkeys(ALL, NOW_MS - RESUMED_MS - 1) | {shard_of("ahead"): NOW_MS + 60_000})
    assert rig.checked == {"short", "long", "ahead"}
    assert rig.scheduler.done == {"long": NOW_MS - RESUMED_MS - 1, "ahead": NOW_MS}, "and nobody has looked at what is still to come"


async def test_what_is_new_in_a_shard_that_is_held_has_nobodys_slots(pool: Pool, rig: Rig) -> None:
    await save(pool, "old")
    rig.roster.hold(dict.fromkeys(range(SHARDS), NOW_MS - 500))
    await rig.catalog.refresh()
    await save(pool, "new")
    await rig.catalog.refresh()
    assert rig.scheduler.done == {"old": NOW_MS - 500}


async def test_what_cannot_be_read_stops_nothing_else_and_says_why(pool: Pool, tmp_path: Path) -> None:
    key, other = (SecretStr(Fernet.generate_key().decode()) for _ in range(2))
    token = Fernet(key.get_secret_value().encode()).encrypt(b"s3cret").decode()
    await save(pool, "strange", kind="telepathy")
    await save(pool, "bent", options={"expected_codes": "all of them"})
    await save(pool, "sealed", kind="redis", options={"password": {"sealed": token}})
    await save(pool, "fuzzy", assertions=({"source": "aura"},))
    await save(pool, "fine")
    rig = Rig(pool, tmp_path, sealer=Sealer([other]))
    rig.roster.hold(ALL)
    await rig.catalog.refresh()
    reasons = {target.id: target.options.reason for target in rig.scheduler.targets.values() if isinstance(target.options, Unreadable)}
    assert reasons.keys() == {"strange", "bent", "sealed", "fuzzy"}
    assert "telepathy" in reasons["strange"]
    assert "expected_codes" in reasons["bent"]
    assert "SLA_SECRET_KEYS" in reasons["sealed"]
    assert "s3cret" not in str(reasons)
    await save(pool, "bent")
    await rig.catalog.refresh()
    assert not isinstance(rig.scheduler.targets["bent"].options, Unreadable)


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_a_secret_is_in_clear_for_the_probe_only(pool: Pool, tmp_path: Path) -> None:
    key = SecretStr(Fernet.generate_key().decode())
    token = Fernet(key.get_secret_value().encode()).encrypt(b"s3cret").decode()
    await save(pool, "sealed", kind="redis", options={"password": {"sealed": token}})
    rig = Rig(pool, tmp_path, sealer=Sealer([key]))
    rig.roster.hold(ALL)
    await rig.catalog.refresh()
    assert rig.scheduler.targets["sealed"].options.password.get_secret_value() == "s3cret"
    await rig.memory.write()
    rig.memory.close()
    kept = written(tmp_path)
    assert b"s3cret" not in kept
    assert token.encode() in kept


async def test_statuses_come_as_they_change(pool: Pool, rig: Rig) -> None:
    await save(pool, "one", "two")
    await rig.catalog.refresh()
    assert rig.known.statuses == {"one": "nd", "two": "nd"}
    seen = rig.known.as_of_ms
    async with pool.acquire() as conn:
        await store.apply_status(conn, "one", "mo", 3)
        await store.apply_status(conn, "one", "o", 2)
    await rig.catalog.refresh()
    assert rig.known.statuses == {"one": "mo", "two": "nd"}
    assert rig.known.as_of_ms >= seen > 0
    async with transaction(pool) as conn:
        await store.remove(conn, ["one"], revision_=await store.next_revision(conn))
    await rig.catalog.refresh()
    assert rig.known.statuses == {"two": "nd"}
    await save(pool, "one")
    await rig.catalog.refresh()
    assert rig.known.statuses.keys() == {"one", "two"}


async def test_what_could_not_be_heard_is_not_known_and_the_time_without_is_remembered(pool: Pool, rig: Rig) -> None:
    """Seen red with the copy called fresh whenever the database answers, and with a gap that is not noted."""
    await save(pool, "one")
    await rig.catalog.refresh()
    rig.heard = False
    for after_s in (10, 60):
        rig.now = NOW + timedelta(seconds=after_s)
        await rig.catalog.refresh()
    assert rig.known.as_of_ms == NOW_MS
    rig.heard = True
    await rig.catalog.refresh()
    assert rig.known.as_of_ms == NOW_MS + 60_000
    assert list(rig.known.gaps) == [(NOW_MS, NOW_MS + 60_000)]


async def test_who_starts_knows_when_no_checker_heard_anything(pool: Pool, tmp_path: Path) -> None:
    """Seen red with gaps that only the process knows which was there before: what was due while all were off had failed.

    Also with a gap for each checker that starts beside another, and with gaps that are never forgotten.
    """

    async def starts(after_s: float) -> list[Gap]:
        rig = Rig(pool, tmp_path)
        rig.now = NOW + timedelta(seconds=after_s)
        await rig.catalog.refresh()
        return [((began - NOW_MS) // 1000, (ended - NOW_MS) // 1000) for began, ended in rig.known.gaps]

    assert [await starts(after_s) for after_s in (0, 4, 3600, 3602, 3601)] == [[], [], [(4, 3600)], [(4, 3600)], [(4, 3600)]]
    found = [await starts(day * 86_400) for day in range(1, 60)][-1]
    assert await pool.fetchval("select cardinality(gaps) from push_hearing") == 2 * len(found) == 2 * MOST_GAPS
    assert found[-1] == (58 * 86_400, 59 * 86_400)
    ahead = await starts(1e9)
    assert ahead[-1][1] < 1e9, "a clock that is far ahead makes no gap in the future"


async def test_a_job_that_reports_is_judged_at_once(pool: Pool, rig: Rig) -> None:
    await save(pool, "job", "other")
    rig.roster.hold(ALL)
    await pool.execute("insert into push_states (service_id, revision, succeeded_ms, log) values ('other', 1, 5, '')")
    await rig.catalog.refresh()
    assert rig.known.pushes["other"].succeeded_ms == 5
    assert rig.scheduler.hastened == [], "what was said before this process began is no news"
    await pool.execute("insert into push_states (service_id, revision, succeeded_ms, log) values ('job', 2, 7, '')")
    await rig.catalog.refresh()
    await rig.catalog.refresh()
    assert rig.known.pushes["job"].succeeded_ms == 7
    assert rig.scheduler.hastened == ["job"]


async def test_a_restart_without_the_database_goes_on_with_what_was_known(pool: Pool, tmp_path: Path) -> None:
    await save(pool, "mine", "gone-meanwhile", regions=("seoul",))
    await save(pool, "not-mine")
    before = Rig(pool, tmp_path)
    mine = {shard_of("mine"), shard_of("gone-meanwhile")}
    before.roster.hold(dict.fromkeys(mine, 0))
    await before.catalog.refresh()
    await before.memory.write()
    before.memory.close()

    after = Rig(pool, tmp_path)
    await recall(after.memory, after.roster, after.sealer, after_s=0)
    assert after.checked == {"mine", "gone-meanwhile"}
    assert after.roster.held == mine
    assert after.scheduler.done["mine"] == NOW_MS - 250, "what the process before looked at until its last note is not looked at again"

    await pool.execute("delete from services where id = 'gone-meanwhile'")  # the database comes back, from before
    told = after.scheduler.told
    await after.catalog.refresh()
    assert after.checked == {"mine"}
    assert after.scheduler.told == told, "what is as it was is not begun anew"


async def test_what_the_database_says_goes_before_what_is_remembered(pool: Pool, rig: Rig) -> None:
    await save(pool, "one")
    await rig.catalog.refresh()
    rig.roster.hold({})
    rig.memory.note_shards(ALL)
    await rig.memory.write()
    await recall(rig.memory, rig.roster, rig.sealer, after_s=5)
    assert rig.checked == set()


async def test_a_database_brought_back_from_a_backup_is_read_anew(pool: Pool, rig: Rig) -> None:
    """Seen red without: what the backup did not have went on being checked."""
    await save(pool, "one")
    await save(pool, "two")
    rig.roster.hold(ALL)
    await rig.catalog.refresh()
    await pool.execute("delete from services where id = 'two'")
    await pool.execute("update definitions_revision set revision = 1")
    await rig.catalog.refresh()
    assert rig.checked == {"one"}
