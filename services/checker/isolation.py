"""Is it me? Canaries: addresses that answer as long as this checker reaches anything at all.

A failure is told only after a look at the canaries that began after the failing check did. If none of them answers, this checker is
isolated: until one does, whatever it finds is unknown. Looks are shared and made once a second at most, so that a thousand failing
services ask no more of the canaries than one.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from prometheus_client import Counter, Gauge

from services.checker.domain.kinds import Kind
from services.checker.domain.target import Measurement, Target, not_looked
from services.checker.probes.engine import EngineStopped
from shared.clock import Clock
from shared.contracts.checks import CheckerIsolatedV1, CheckerRecoveredV1
from shared.contracts.codes import Outcome
from shared.contracts.envelope import Event
from shared.contracts.registry import make_event
from shared.health import Health
from shared.runtime import background
from shared.telemetry import logger

CANARY_TIMEOUT_MS = 2_000
APART_S = 1.0
"""How far apart looks begin at least."""
REST_S = 5.0
"""How often somebody looks although nothing fails, so that the health and the events are timely."""
PART = "connectivity"
ANY_CODE = {"method": "HEAD", "expected_codes": ["1xx", "2xx", "3xx", "4xx", "5xx"], "follow_redirects": False}

ISOLATED = Gauge("sla_checker_isolated", "1 while no canary answers and everything that this checker finds is unknown")
WITHHELD = Counter("sla_checker_results_withheld_total", "Results that became unknown because this checker was isolated")
UNKNOWN = not_looked("this checker is isolated")
log = logger(__name__)

Probe = Callable[[Target], Awaitable[Measurement]]


def canary_targets(addresses: Sequence[str], kinds: Mapping[str, Kind]) -> tuple[Target, ...]:
    """Return canaries as targets of the probes for tcp and http. Any answer of a web server will do."""
    return tuple(_canary_target(address, kinds) for address in addresses)


def _canary_target(address: str, kinds: Mapping[str, Kind]) -> Target:
    kind = kinds["tcp" if urlsplit(address).scheme == "tcp" else "http"]
    options, flaws = kind.read(ANY_CODE if kind.name == "http" else {})
    if flaws:
        msg = f"the options of canaries are not those of {kind.name}: {flaws}"
        raise ValueError(msg)
    return Target(f"canary {address}", kind.name, address, 1000, CANARY_TIMEOUT_MS, options, 0, 0)


class Isolation:
    """The canaries of one process, and whether any of them answers. Made by `watching`."""

    def __init__(
        self,
        canaries: Sequence[Target],
        *,
        probe: Probe,
        say: Callable[[Event[Any]], None],
        clock: Clock,
        health: Health,
        checker: str,
        region: str,
    ) -> None:
        """`say` is called with an event whenever this checker becomes isolated or recovers. Without canaries nothing is ever in doubt."""
        self._canaries = tuple(canaries)
        self._probe, self._say, self._clock, self._health = probe, say, clock, health
        self._checker, self._region = checker, region
        self._since: datetime | None = None
        self._recovered_s = 0.0
        self._began_s = float("-inf")
        self._look: asyncio.Task[bool] | None = None
        self._next: asyncio.Task[bool] | None = None

    async def settle(self, found: Measurement, began_s: float) -> Measurement:
        """Return what may be told of a measurement whose check began at the loop's time `began_s`: as it is, or that nothing is known."""
        if not self._canaries or found.outcome is Outcome.UNKNOWN:
            return found
        if self._since is None and found.outcome is not Outcome.FAILED:
            return found
        # What began while this checker was isolated failed for its sake, even if it recovered meanwhile.
        if self._since is None and await self.look(since_s=began_s) and began_s >= self._recovered_s:
            return found
        WITHHELD.inc()
        return UNKNOWN

    async def look(self, *, since_s: float) -> bool:
        """Return whether any canary answered in a look that began at the loop's time `since_s` or later. Shared by all who ask."""
        if self._look is None or self._began_s < since_s:
            if self._next is None:
                self._next = asyncio.create_task(self._look_next())
            return await asyncio.shield(self._next)
        return await asyncio.shield(self._look)

    async def watch(self) -> None:
        """Look now and then, until cancelled: more often while isolated."""
        loop = asyncio.get_running_loop()
        while self._canaries:
            await self.look(since_s=loop.time())
            await asyncio.sleep(REST_S if self._since is None else APART_S)

    async def close(self) -> None:
        """Give up looks that are under way."""
        tasks = [task for task in (self._look, self._next) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _look_next(self) -> bool:
        loop = asyncio.get_running_loop()
        if self._look is not None:
            await asyncio.wait({self._look})
        await asyncio.sleep(max(0.0, self._began_s + APART_S - loop.time()))
        self._began_s = loop.time()
        self._look, self._next = self._next, None
        reason = await self._silence()
        self._conclude(reason)
        return reason is None

    async def _silence(self) -> str | None:
        """Return None as soon as one canary answers; if none does, why not."""
        tasks = [asyncio.create_task(self._ask(canary)) for canary in self._canaries]
        reasons = []
        try:
            for answer in asyncio.as_completed(tasks):
                reason = await answer
                if reason is None:
                    return None
                reasons.append(reason)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        return "; ".join(sorted(reasons))

    async def _ask(self, canary: Target) -> str | None:
        try:
            found = await self._probe(canary)
        except EngineStopped:
            raise
        except Exception as error:
            log.exception("looking at a canary failed", canary=canary.endpoint_url)
            return f"{canary.endpoint_url}: defect of the probe ({type(error).__name__})"
        return None if found.outcome is Outcome.HEALTHY else f"{canary.endpoint_url}: {found.error_message}"

    def _conclude(self, reason: str | None) -> None:
        now = self._clock()
        if reason is None and self._since is not None:
            since, self._since = self._since, None
            self._recovered_s = asyncio.get_running_loop().time()
            log.info("no longer isolated: results count again", since=since.isoformat())
            self._say_so(CheckerRecoveredV1(checker=self._checker, region=self._region, since=since, recovered_at=now), since)
            self._health.set(PART, ok=True)
        elif reason is not None:
            if self._since is None:
                self._since = now
                log.error("isolated: no canary answers, and whatever is found counts as unknown", reason=reason)
                addresses = tuple(canary.endpoint_url for canary in self._canaries)
                self._say_so(CheckerIsolatedV1(checker=self._checker, region=self._region, since=now, canaries=addresses), now)
            self._health.set(PART, ok=False, reason=f"isolated since {self._since.isoformat(timespec='seconds')}: {reason}"[:500])
        ISOLATED.set(self._since is not None)

    def _say_so(self, data: CheckerIsolatedV1 | CheckerRecoveredV1, since: datetime) -> None:
        version = int(since.timestamp() * 1000)
        event: Event[Any] = make_event(
            data, source="/checker", subject=self._checker, version=version, at=self._clock(), correlation_id=f"{self._checker}/{version}"
        )
        self._say(event)


@asynccontextmanager
async def watching(isolation: Isolation, health: Health) -> AsyncIterator[None]:
    """Keep looking until this is left."""
    try:
        async with background(health, "canaries", isolation.watch):
            yield
    finally:
        await isolation.close()
