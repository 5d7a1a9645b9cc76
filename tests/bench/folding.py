"""Results folded per second on one core, beside plain COPY of the same rows into the same table in the same run.

`python -m tests.bench.folding` prints both and their ratio, each a median over some rounds. Folding is the aggregator's whole path for
messages as checkers send them (200 results each, of many services): decoding, raw rows, days, statuses, and afterwards the rollups of
all that was folded, all counted into the time. One connection and one process, so one core each for the aggregator and for PostgreSQL.
"""

import argparse
import secrets
import statistics
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import asyncpg
import uvloop

from services.aggregator import records, rollups, usecases
from shared.contracts.checks import CheckBatchV1, CheckResult, Phases, check_id
from shared.contracts.codes import Outcome
from shared.contracts.envelope import Event
from shared.contracts.registry import decode, encode
from shared.database import open_pool, transaction
from shared.health import Health
from shared.runtime import collect_rarely
from tests import servers

SERVICES = 1_000
REGION = "bench"
PER_MESSAGE = 200
MESSAGES_AT_ONCE = 50
"""How many messages one transaction takes: what waits in a busy queue."""
INTERVAL = timedelta(seconds=1)
SQL_SERVICES = """
insert into service (id, version, is_active, created_at, check_interval)
select 'bench-' || n, 1, true, $1, 1000 from generate_series(0, $2 - 1) n"""
GOAL_PER_S = 10_000
GOAL_RATIO = 0.25


def messages(start: datetime, slots: int) -> Iterator[bytes]:
    """Give messages with one healthy result per service and slot, as a checker sends them."""
    results = [result(f"bench-{number}", start + slot * INTERVAL, slot) for slot in range(slots) for number in range(SERVICES)]
    for first in range(0, len(results), PER_MESSAGE):
        data = CheckBatchV1(checker="bench:1", results=tuple(results[first : first + PER_MESSAGE]))
        batch_id = uuid4()
        yield encode(
            Event[CheckBatchV1](
                id=batch_id, source="/checker", type=data.TYPE, subject=REGION, time=start, correlationid=batch_id.hex, data=data
            )
        )


def result(service_id: str, at: datetime, slot: int) -> CheckResult:
    """Return one healthy result."""
    took = 20.0 + (hash((service_id, slot)) % 10_000) / 100
    return CheckResult(
        id=check_id(service_id, REGION, at),
        service_id=service_id,
        region=REGION,
        scheduled_at=at,
        checked_at=at,
        outcome=Outcome.HEALTHY,
        response_time_ms=took,
        status_code=200,
        phases=Phases(name_lookup_ms=0.2, connect_ms=1.5, first_byte_ms=took - 2, total_ms=took),
        endpoint="https://api.example.com/health",
        method="GET",
    )


async def fold_all(pool: asyncpg.Pool, bodies: list[bytes], start: datetime, end: datetime) -> float:
    """Fold messages as they would come in time, roll their minutes up, and return the seconds that both took."""
    began = time.perf_counter()
    for first in range(0, len(bodies), MESSAGES_AT_ONCE):
        batches = [decode(CheckBatchV1.TYPE, body) for body in bodies[first : first + MESSAGES_AT_ONCE]]
        async with transaction(pool) as conn:
            await usecases.fold(conn, batches, now=end)
    async with transaction(pool) as conn:
        await rollups.roll(conn, start, end)
    return time.perf_counter() - began


async def copy_all(pool: asyncpg.Pool, bodies: list[bytes]) -> float:
    """Copy the rows of the same messages, decoded beforehand, and return the seconds that COPY alone took."""
    took = 0.0
    for first in range(0, len(bodies), MESSAGES_AT_ONCE):
        batches = [decode(CheckBatchV1.TYPE, body) for body in bodies[first : first + MESSAGES_AT_ONCE]]
        rows = [records.row(one, batch.data.checker) for batch in batches for one in batch.data.results]
        async with transaction(pool) as conn:
            began = time.perf_counter()
            await conn.copy_records_to_table("api_response_times", records=rows, columns=records.COLUMNS)
            took += time.perf_counter() - began
    return took


async def measure(url: str, rounds: int, slots: int) -> tuple[list[float], list[float]]:
    """Return results per second of folding and of COPY, a figure for each round."""
    folding, copying = [], []
    async with open_pool(url, name="bench", health=Health("bench"), size=2) as pool:
        today = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
        async with transaction(pool) as conn:
            await conn.execute(SQL_SERVICES, today - timedelta(days=9), SERVICES)
        for number in range(rounds):
            start = today - timedelta(hours=2 * number + 4)
            end = start + slots * INTERVAL
            folding.append(SERVICES * slots / await fold_all(pool, list(messages(start, slots)), start, end))
            copying.append(SERVICES * slots / await copy_all(pool, list(messages(start + timedelta(hours=1), slots))))
            print(f"  round {number + 1}: fold {folding[-1]:,.0f}/s, COPY {copying[-1]:,.0f}/s", flush=True)
    return folding, copying


def compare(rounds: int, slots: int) -> bool:
    """Measure, print, and say whether the goals were met."""
    collect_rarely()  # as every service does
    run = servers.Run(servers.run_folder(f"bench-{secrets.token_hex(4)}"))
    try:
        server = run.server("postgresql")
        servers.make_template(run, server)
        with servers.fresh_database(run, server, servers.TEMPLATE) as database:
            folding, copying = uvloop.run(measure(database.url("aggregator"), rounds, slots))
    finally:
        run.leave()
    fold, copy = statistics.median(folding), statistics.median(copying)
    met = fold >= GOAL_PER_S and fold / copy >= GOAL_RATIO
    print(f"Results folded per second, one connection, {SERVICES} services, median of {rounds}:")
    print(f"folded {fold:,.0f}/s, plain COPY of the same rows {copy:,.0f}/s, ratio {fold / copy:.2f}")
    print(f"goal: at least {GOAL_PER_S:,}/s, ratio at least {GOAL_RATIO:g}: {'met' if met else 'MISSED'}")
    return met


def main() -> int:
    """Compare; the exit code says whether the goals were met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slots", type=int, default=60, help="results of each service in a round")
    chosen = parser.parse_args()
    return 0 if compare(chosen.rounds, chosen.slots) else 1


if __name__ == "__main__":
    sys.exit(main())
