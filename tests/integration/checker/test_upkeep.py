"""The log's months: made ahead, and dropped whole when all of one is old."""

from datetime import date

from services.checker import partitions, store
from shared.database import open_pool, transaction
from shared.health import Health
from tests.servers import Database

SQL_LOG = """
insert into watch_server_logs (id, service_id, region, scheduled_at, checked_at) values (gen_random_uuid(), 'one', 'r', $1, $1)"""


async def test_months_older_than_the_retention_go_whole_and_so_do_old_rows_of_no_month(database: Database) -> None:
    """Seen red with months compared by their first day."""
    async with open_pool(database.url("checker"), name="test", health=Health("test")) as pool:
        async with transaction(pool) as conn:
            await store.make_partitions(conn, [date(2026, 1, 1), date(2026, 2, 1), date(2026, 3, 1)])
            for day in ("2025-06-01", "2026-01-31", "2026-02-01", "2026-03-10"):
                await conn.execute(SQL_LOG.replace("$1", f"'{day} 12:00+00'"))
        async with transaction(pool) as conn:
            assert await partitions.drop(conn, today=date(2026, 5, 5), keep_days=90) == ["watch_server_logs_2026_01"]
        days = [f"{row['scheduled_at']:%Y-%m-%d}" for row in await pool.fetch("select scheduled_at from watch_server_logs order by 1")]
        assert days == ["2026-02-01", "2026-03-10"]
        async with transaction(pool) as conn:
            assert await partitions.drop(conn, today=date(2026, 5, 5), keep_days=90) == []
