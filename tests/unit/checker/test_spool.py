"""The spool: a file that outlives its process, bounded, one process's alone."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.checker.spool import GIVEN_UP, Batch, Spool, SpoolUnusable
from shared import topology

MB = 1024 * 1024


def batch(number: int, size: int = 10) -> Batch:
    return Batch(f"batch-{number}", 2, bytes(size))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "spool.sqlite3"


def test_what_was_appended_is_there_after_reopening_in_order(path: Path) -> None:
    with Spool(path, max_bytes=MB) as spool:
        for number in range(5):
            spool.append(batch(number))
        spool.delete([batch(1)])
    with Spool(path, max_bytes=MB) as spool:
        assert [one.batch_id for one in spool.oldest(10)] == ["batch-0", "batch-2", "batch-3", "batch-4"]
        assert spool.oldest(2) == [batch(0), batch(2)]
        assert spool.size_bytes == 40


def test_the_oldest_go_first_when_it_is_full_and_are_counted(path: Path) -> None:
    """Seen red with `_make_room` returning without deleting."""
    before = GIVEN_UP._value.get()  # noqa: SLF001  # a counter has no public reading
    with Spool(path, max_bytes=35) as spool:
        assert [spool.append(batch(number)) for number in range(5)] == [0, 0, 0, 2, 2]
        assert [one.batch_id for one in spool.oldest(10)] == ["batch-2", "batch-3", "batch-4"]
        assert spool.size_bytes == 30
    assert GIVEN_UP._value.get() - before == 4  # noqa: SLF001  # as above


def test_the_file_shrinks_again_after_a_long_outage(path: Path) -> None:
    """Seen red with auto_vacuum set after the journal mode, where SQLite passes it by."""
    with Spool(path, max_bytes=10 * MB) as spool:
        kept = [batch(number, 64_000) for number in range(50)]
        for one in kept:
            spool.append(one)
        spool.delete(kept)
    assert path.stat().st_size < MB


def test_appending_or_deleting_twice_changes_nothing(path: Path) -> None:
    with Spool(path, max_bytes=MB) as spool:
        spool.append(batch(1))
        spool.append(batch(1))
        assert spool.size_bytes == 10
        spool.delete([batch(1)])
        spool.delete([batch(1)])
        assert (spool.oldest(5), spool.size_bytes) == ([], 0)


def test_a_file_of_an_older_version_keeps_what_it_holds(path: Path) -> None:
    """Seen red with the new columns in `SQL_TABLE` only, and with a new table made in place of the old one."""
    path.parent.mkdir()
    with sqlite3.connect(path, isolation_level=None) as old:
        old.execute(
            "create table batch (position integer primary key autoincrement, batch_id text not null unique,"
            " results integer not null, body blob not null)"
        )
        old.execute("insert into batch (batch_id, results, body) values ('old', 7, x'0102')")
    old.close()
    event = Batch("event", 0, b"{}", topology.EVENTS, "checker.isolated.v1")
    with Spool(path, max_bytes=MB) as spool:
        spool.append(event)
    with Spool(path, max_bytes=MB) as spool:
        assert spool.oldest(5) == [Batch("old", 7, b"\x01\x02", topology.CHECKS, "checks.measured.v1"), event]


def test_both_ends_are_read_without_what_is_under_way(path: Path) -> None:
    with Spool(path, max_bytes=MB) as spool:
        for number in range(6):
            spool.append(batch(number))
        assert [one.batch_id for one in spool.oldest(2, without={"batch-0", "batch-2"})] == ["batch-1", "batch-3"]
        assert [one.batch_id for one in spool.newest(2, without={"batch-5"})] == ["batch-4", "batch-3"]


def test_a_second_process_is_refused(path: Path) -> None:
    """Seen red without `locking_mode = exclusive`."""
    with Spool(path, max_bytes=MB), pytest.raises(SpoolUnusable, match="locked"):
        Spool(path, max_bytes=MB, patience_s=0.05)


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    damaged = tmp_path / "spool.sqlite3"
    damaged.write_bytes(b"no database" * 1000)
    with pytest.raises(SpoolUnusable, match="move it away"):
        Spool(damaged, max_bytes=MB)


@settings(max_examples=25, deadline=None)
@given(sizes=st.lists(st.integers(min_value=1, max_value=60), max_size=20), bound=st.integers(min_value=60, max_value=200))
def test_it_never_holds_more_than_its_bound_and_keeps_the_newest(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], bound: int
) -> None:
    with Spool(tmp_path_factory.mktemp("spool") / "s", max_bytes=bound) as spool:
        for number, size in enumerate(sizes):
            spool.append(batch(number, size))
        kept = [one.batch_id for one in spool.oldest(100)]
        assert spool.size_bytes == sum(len(one.body) for one in spool.oldest(100)) <= bound
        assert kept == [f"batch-{number}" for number in range(len(sizes))][len(sizes) - len(kept) :]
