"""A scheduler whose probe a test holds in its hand."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from services.checker.domain.target import Measurement, Target
from services.checker.probes.http import HttpOptions
from services.checker.scheduler import Check, Scheduler
from shared.clock import utc_now
from shared.contracts.codes import Outcome
from tests.waiting import until


def target(service_id: str = "one", *, interval_ms: int = 50, url: str = "http://127.0.0.1/", **more: Any) -> Target:  # noqa: ANN401  # any field
    return Target(service_id, "http", url, interval_ms, 40, HttpOptions(), 0, 1, **more)


@dataclass(slots=True)
class Bench:
    """A scheduler, what it delivered, and how its probe behaves: what is in `held` hangs until `hold` is set."""

    scheduler: Scheduler = field(init=False)
    delivered: list[Check] = field(default_factory=list)
    running: Counter[str] = field(default_factory=Counter)
    most: int = 0
    most_together: int = 0
    hold: asyncio.Event | None = None
    held: set[str] = field(default_factory=lambda: {"one"})
    error: Exception | None = None
    outcomes: list[Outcome] = field(default_factory=list)
    offset: timedelta = timedelta(0)
    total: int = 1000
    per_host: int = 64

    async def probe(self, one: Target) -> Measurement:
        self.running[one.id] += 1
        self.most = max(self.most, self.running[one.id])
        self.most_together = max(self.most_together, self.running.total())
        try:
            if self.error:
                raise self.error
            if self.hold and one.id in self.held:
                await self.hold.wait()
            return Measurement(self.outcomes.pop(0) if self.outcomes else Outcome.HEALTHY)
        finally:
            self.running[one.id] -= 1

    def now(self) -> datetime:
        return utc_now() + self.offset

    def of(self, service_id: str) -> list[Check]:
        return [check for check in self.delivered if check.target.id == service_id]

    async def delivers(self, number: int, service_id: str = "") -> None:
        async def enough() -> bool:
            return len(self.of(service_id) if service_id else self.delivered) >= number

        await until(enough, within_s=5, what=f"{number} checks {service_id}")

    async def begins(self, number: int = 1) -> None:
        async def begun() -> bool:
            return self.running.total() == number

        await until(begun, within_s=5, what=f"{number} checks that run")


@asynccontextmanager
async def running(change: Callable[[Bench], None] = lambda _: None) -> AsyncIterator[Bench]:
    bench = Bench()
    change(bench)
    bench.scheduler = Scheduler(
        region="r",
        probe=bench.probe,
        deliver=bench.delivered.append,
        clock=bench.now,
        total=bench.total,
        per_host=bench.per_host,
    )
    loop = asyncio.create_task(bench.scheduler.run())
    yield bench
    loop.cancel()
    await asyncio.gather(loop, return_exceptions=True)
    await bench.scheduler.drain(0.2)
