"""What is remembered over a restart is a copy: it may be lost, but it is never another region's, and never half of two."""

from datetime import UTC, datetime
from pathlib import Path

from services.checker.changes import Wanted
from services.checker.remembered import Remembered

NOW = datetime(2026, 5, 17, 12, 0, tzinfo=UTC)


def wanted(name: str, revision: int = 1) -> Wanted:
    return Wanted(
        name,
        "http",
        "https://api.example.com/",
        1000,
        900,
        {"method": "HEAD"},
        5,
        revision,
        2,
        2,
        None,
        250,
        [{"source": "body"}],
        ["seoul"],
        True,
    )


def opened(folder: Path, *, region: str = "seoul", new_name: str = "first") -> Remembered:
    return Remembered(folder / "deep" / "remembered.sqlite3", region=region, new_name=new_name, clock=lambda: NOW)


async def test_what_was_noted_is_there_after_a_restart(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        memory.note([wanted("one"), wanted("two"), wanted("three")], [])
        memory.note_shards({1: 100, 2: 2_000_000_000_000})
        await memory.write()
        memory.note([wanted("one", 7)], ["two"])
        memory.note_only({"one"})
        await memory.write()
    with opened(tmp_path, new_name="second") as memory:
        assert memory.checker == "first"
        assert memory.definitions() == [wanted("one", 7)]
        assert memory.shards() == {1: int(NOW.timestamp() * 1000) - 250, 2: 2_000_000_000_000}


async def test_what_another_region_left_is_forgotten(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        memory.note([wanted("one")], [])
        memory.note_shards({1: 1})
        await memory.write()
    with opened(tmp_path, region="tokyo", new_name="second") as memory:
        assert (memory.checker, memory.definitions(), memory.shards()) == ("second", [], {})


async def test_a_damaged_file_is_begun_anew(tmp_path: Path) -> None:
    with opened(tmp_path) as memory:
        await memory.write()
    (tmp_path / "deep" / "remembered.sqlite3").write_bytes(b"no database " * 1000)
    with opened(tmp_path, new_name="second") as memory:
        assert memory.checker == "second"
        assert memory.definitions() == []


async def test_what_the_disk_refused_is_written_the_next_time(tmp_path: Path) -> None:
    """Seen red with what could not be written forgotten."""
    with opened(tmp_path) as memory:
        memory._file.execute("pragma query_only = on")  # noqa: SLF001  # a disk that refuses
        memory.note([wanted("one"), wanted("two")], [])
        memory.note_shards({1: 1})
        await memory.write()
        assert memory.definitions() == []
        memory.note([wanted("two", 2)], [])
        memory._file.execute("pragma query_only = off")  # noqa: SLF001  # as above
        await memory.write()
        assert sorted(one.revision for one in memory.definitions()) == [1, 2]
        assert memory.shards().keys() == {1}
