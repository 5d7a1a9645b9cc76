"""Every REST read of history, through one gateway, of very many services: p50 and p95 of each kind.

`python -m tests.bench.reading` loads `db seed --scale` into a database of its own, starts the four services as users do, signs in and asks.
What the gateway keeps in Redis is thrown away before each question, so that none is answered from there. Printed is the median of several
rounds; with `--at-once` so many ask at the same time, which has no goal, as they wait for each other's share of the processor.
"""

import argparse
import asyncio
import hashlib
import os
import random
import secrets
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import uvloop
from redis.asyncio import Redis

from infra.ops import scale, scale_past
from tests import servers
from tests.product import Product, running_product

SERVICES = int(os.environ.get("SLA_TEST_SCALE", "10000"))
READS = 100
ROUNDS = 3
WARM = 7
"""Questions of each kind that are not measured: PostgreSQL chooses the plan that it stays with after five."""
GOAL_MS = 50.0
ANSWERING = ("gateway", "aggregator", "incidents")
DAYS = scale.Scale().days
DAY, MINUTE = timedelta(days=1), timedelta(minutes=1)

Request = tuple[str, dict[str, Any]]
"""The path, and what it is asked with: `params`, or `json` of a POST."""


@dataclass(frozen=True, slots=True)
class Asker:
    """Makes questions, each about another service or contract, and another time."""

    chance: random.Random
    services: int
    now: datetime

    def service(self) -> str:
        """Return a service."""
        return f"scale-{self.chance.randrange(self.services)}"

    def contract(self) -> str:
        """Return a contract over ten services, of a month, a quarter or thirty days."""
        return f"scale-{self.chance.randrange(max(1, self.services // scale_past.SERVICES_OF_A_CONTRACT))}"

    def wide(self) -> str:
        """Return a contract over a hundred services."""
        return f"scale-wide-{self.chance.randrange(-(-self.services // scale.AT_ONCE)) * scale.AT_ONCE}"

    def incident(self) -> UUID:
        """Return an incident, by the id that `infra.ops.scale_past` gives it."""
        known = f"scale {self.chance.randrange(self.services)} outage {self.chance.randrange(DAYS // 10)}"
        return UUID(hashlib.md5(known.encode(), usedforsecurity=False).hexdigest())

    def checked(self) -> str:
        """Return a service with every check of its history."""
        return f"scale-{self.chance.randrange(-(-self.services // scale_past.ALL_CHECKS_OF)) * scale_past.ALL_CHECKS_OF + 7}"

    def minuted(self) -> str:
        """Return a service with a day of minutes."""
        return f"scale-{self.chance.randrange(min(self.services, scale.AT_ONCE) // scale.MINUTES_OF)}"

    def span(self, days: int) -> dict[str, str]:
        """Return a time of so many days that ended some minutes ago."""
        end = self.now - self.chance.randrange(1, 120) * MINUTE
        return {"from": (end - days * DAY).isoformat(), "to": end.isoformat()}


Question = Callable[[Asker], Request]


def _of_service(rest: str, days: int, which: Callable[[Asker], str] = Asker.service, **more: object) -> Question:
    return lambda one: (f"/api/v1/services/{which(one)}/{rest}", {"params": one.span(days) | more})


def _long_ago(one: Asker) -> Request:
    end = one.now - one.chance.randrange(10 * 24, 80 * 24) * 60 * MINUTE
    return (
        f"/api/v1/services/{one.checked()}/response-times/series",
        {"params": {"from": (end - 180 * MINUTE).isoformat(), "to": end.isoformat()}},
    )


def _audit_by_contract(one: Asker) -> Request:
    number = one.chance.randrange(one.services)
    contract = f"scale-{number // scale_past.SERVICES_OF_A_CONTRACT}"
    return (f"/api/v1/services/scale-{number}/uptime/audit", {"params": one.span(30) | {"contract": contract}})


def _report(form: str, which: Callable[[Asker], str] = Asker.contract, **more: str) -> Question:
    return lambda one: (f"/api/v1/sla/contracts/{which(one)}/report", {"params": {"format": form, "language": "en"} | more})


QUESTIONS: Mapping[str, Question] = {
    "uptime, 90 days": lambda one: (f"/api/v1/services/{one.service()}/uptime", {"params": {"days": 90}}),
    "response times, 24 h": _of_service("response-times/series", 1, Asker.minuted),
    "response times, 3 h long ago": _long_ago,
    "response times, 30 days": _of_service("response-times/series", 30),
    "response times, 30 days, 500 points": _of_service("response-times/series", 30, points=500),
    "response times, 90 days": _of_service("response-times/series", 90),
    "timeline, 30 days": _of_service("timeline", 30),
    "timeline, 90 days": _of_service("timeline", 90),
    "statuses, 90 days": _of_service("status/history", 90),
    "audit, 30 days": _of_service("uptime/audit", 30),
    "audit, 90 days": _of_service("uptime/audit", 90),
    "audit, 90 days, as of a week ago": lambda one: (
        f"/api/v1/services/{one.service()}/uptime/audit",
        {"params": one.span(90) | {"as_of": (one.now - 7 * DAY).isoformat()}},
    ),
    "audit by a contract": _audit_by_contract,
    "corrections": lambda one: (f"/api/v1/services/{one.service()}/corrections", {}),
    "incidents, newest": lambda one: ("/api/v1/incidents", {"params": {"before": one.span(1)["to"]}}),
    "incidents of a service": lambda one: ("/api/v1/incidents", {"params": {"service": one.service()}}),
    "open incidents": lambda _one: ("/api/v1/incidents", {"params": {"open": "true"}}),
    "incident": lambda one: (f"/api/v1/incidents/{one.incident()}", {}),
    "maintenances, 30 days": lambda one: ("/api/v1/maintenances", {"params": one.span(30)}),
    "maintenances of a service": lambda one: ("/api/v1/maintenances", {"params": {"service": one.service()}}),
    "contract": lambda one: (f"/api/v1/sla/contracts/{one.contract()}", {}),
    "contract's exclusions": lambda one: (f"/api/v1/sla/contracts/{one.contract()}/exclusions", {}),
    "contract's standing": lambda one: (f"/api/v1/sla/contracts/{one.contract()}/standing", {}),
    "report, data": _report("json"),
    "report, page": _report("html"),
    "report, table of services": _report("csv"),
    "report, table of outages": _report("csv", rows="outages"),
}
"""What has the goal. Contracts are over ten services."""
WORK: Mapping[str, Question] = {
    "every contract": lambda _one: ("/api/v1/sla/contracts", {}),
    "report over 100 services, data": _report("json", Asker.wide),
    "report, PDF": _report("pdf"),
    "report over 100 services, PDF": _report("pdf", Asker.wide),
    "dry run, 30 days of minutes": lambda one: (
        f"/api/v1/services/{one.checked()}/dry-run",
        {"json": one.span(30) | {"failure_threshold": one.chance.randrange(3, 9)}},
    ),
}
"""What is measured and has no goal: it is as long as what it is about, or computed or drawn when it is asked for."""


@dataclass(frozen=True, slots=True)
class Took:
    """How long answers took, in milliseconds, and how long the longest answer was, in bytes."""

    p50: float
    p95: float
    most_bytes: int


class Reader:
    """Asks the gateway."""

    def __init__(self, client: httpx.AsyncClient, redis: Redis, asker: Asker) -> None:
        """`redis`: the gateway's own, and nobody else's."""
        self._client = client
        self._redis = redis
        self.asker = asker

    async def ask(self, question: Question) -> tuple[float, httpx.Response]:
        """Ask once; return the milliseconds, and the answer. Fails unless it is one."""
        path, what = question(self.asker)
        await self._redis.flushdb()
        began = time.perf_counter()
        answer = await self._client.request("POST" if "json" in what else "GET", path, **what)
        took = (time.perf_counter() - began) * 1000
        if answer.status_code != httpx.codes.OK:
            msg = f"{path} {what}: {answer.status_code} {answer.text[:500]}"
            raise AssertionError(msg)
        return took, answer

    async def measure(self, question: Question, *, reads: int, at_once: int = 1) -> Took:
        """Ask so many times, so many at once."""
        took: list[float] = []
        most = 0

        async def some(number: int) -> None:
            nonlocal most
            for _ in range(number):
                one, answer = await self.ask(question)
                took.append(one)
                most = max(most, len(answer.content))

        await asyncio.gather(*(some(-(-reads // at_once)) for _ in range(at_once)))
        return Took(statistics.median(took), statistics.quantiles(took, n=20, method="inclusive")[-1], most)


def processor_s(product: Product) -> list[float]:
    """Return how long each of the answering services has had a processor: on a busy machine that says more than the clock."""
    found = []
    for service in ANSWERING:
        process = product.of(service).process
        assert process is not None
        fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        found.append((int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK"))  # utime, stime: proc(5)
    return found


async def run(database: servers.Database, vhost: servers.Vhost, redis_url: str, chosen: argparse.Namespace) -> dict[str, Took]:
    """Start the product, ask everything, print it; return what has a goal."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        async with (
            running_product(database, vhost, redis_url, Path(folder)) as product,
            product.signed_in() as client,
            Redis.from_url(redis_url) as redis,
        ):
            reader = Reader(client, redis, Asker(random.Random(1), chosen.services, datetime.now(UTC)))
            for name, question in {**QUESTIONS, **WORK}.items():
                if chosen.only not in name:
                    continue
                reads, rounds = (chosen.reads, ROUNDS) if name in QUESTIONS else (max(3, chosen.reads // 10), 1)
                await reader.measure(question, reads=WARM)
                before = processor_s(product)
                each = [await reader.measure(question, reads=reads, at_once=chosen.at_once) for _ in range(rounds)]
                spent = [(after - at) * 1000 / reads / rounds for after, at in zip(processor_s(product), before, strict=True)]
                median = sorted(each, key=lambda one: one.p95)[len(each) // 2]
                print(
                    f"{name:38} p50 {median.p50:7.1f} ms  p95 {median.p95:7.1f} ms  {median.most_bytes / 1000:8.1f} kB  processor: "
                    + ", ".join(f"{service} {ms:.1f} ms" for service, ms in zip(ANSWERING, spent, strict=True)),
                    flush=True,
                )
                if name in QUESTIONS:
                    found[name] = median
    return found


def main() -> int:
    """Measure, print, and say whether the goal was met."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--services", type=int, default=SERVICES)
    parser.add_argument("--reads", type=int, default=READS, help="in each round, of each kind")
    parser.add_argument("--at-once", type=int, default=1)
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    chosen = parser.parse_args()
    held = servers.Run(servers.run_folder(f"bench-{secrets.token_hex(4)}"))
    try:
        server = held.server("postgresql")
        servers.make_template(held, server)
        redis_url = held.server("redis").url("1")
        with servers.fresh_database(held, server, servers.TEMPLATE) as database, servers.fresh_vhost(held.server("rabbitmq")) as vhost:
            began = time.monotonic()
            servers.asyncio_run(scale.seed(database.admin_url, held.passwords(), scale.Scale(chosen.services)))
            print(f"{chosen.services} services loaded in {time.monotonic() - began:.0f} s; {chosen.at_once} at once", flush=True)
            took = uvloop.run(run(database, vhost, redis_url, chosen))
    finally:
        held.leave()
    return told(took, at_once=chosen.at_once)


def told(took: Mapping[str, Took], *, at_once: int) -> int:
    """Print whether the goal was met, and return the exit code."""
    if at_once > 1:
        print(f"goal: none with {at_once} at once")
        return 0
    slow = [name for name, one in took.items() if one.p95 >= GOAL_MS]
    print(f"goal: p95 of each read below {GOAL_MS:g} ms: {'MISSED by ' + ', '.join(slow) if slow else 'met'}")
    return int(bool(slow))


if __name__ == "__main__":
    sys.exit(main())
