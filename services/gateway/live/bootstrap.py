"""The whole truth from its owners: when the process begins, now and then, and whenever the stream had a hole."""

import asyncio
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, TypeVar

from services.gateway.live.hub import Hub
from services.gateway.live.readmodel import Answers
from shared import rpc
from shared.clock import Clock
from shared.contracts.commands import INCIDENTS_LIST, MAINTENANCE_LIST, SERVICES_LIST, STATUS_OVERVIEW, IncidentQuery, Nothing
from shared.contracts.history import MaintenanceQuery
from shared.contracts.incidents import Incident
from shared.database import backoff
from shared.telemetry import logger

OPEN_LIMIT = 500
RECENT_LIMIT = 100
MAINTENANCE_LIMIT = 500
OVERDUE = timedelta(days=1)
"""How much later than announced a window may end, and still be asked for."""
T = TypeVar("T")
log = logger(__name__)


class Refresher:
    """Asks checker, aggregator and incidents for everything, and mends the hub's model by it."""

    def __init__(self, hub: Hub, client: rpc.Client, *, every_s: float, timeout_s: float, clock: Clock) -> None:
        """Ask every `every_s` seconds, and at once after `wake`."""
        self._hub = hub
        self._client = client
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._clock = clock
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Ask now: the stream did not tell everything."""
        self._woken.set()

    async def run(self) -> None:
        """Ask for ever; sooner, with growing waits, as long as somebody did not answer."""
        waits = backoff()
        while True:
            complete = await self.refresh()
            if complete:
                waits = backoff()
            try:
                async with asyncio.timeout(self._every_s if complete else next(waits)):
                    await self._woken.wait()
            except TimeoutError:
                continue
            finally:
                self._woken.clear()

    async def refresh(self) -> bool:
        """Ask everybody once and take in what came; say whether all answered."""
        before = self._hub.model.facts.picture()
        services, overview, incidents, maintenances = await asyncio.gather(
            _answer(self._client.call(SERVICES_LIST, Nothing(), timeout_s=self._timeout_s)),
            _answer(self._client.call(STATUS_OVERVIEW, Nothing(), timeout_s=self._timeout_s)),
            _answer(self._incidents()),
            _answer(self._client.call(MAINTENANCE_LIST, self._not_ended(), timeout_s=self._timeout_s)),
        )
        answers = Answers(
            services=None if services is None else services.services,
            statuses=None if overview is None else overview.statuses,
            system=None if overview is None else overview.system,
            incidents=incidents,
            maintenances=None if maintenances is None else maintenances.maintenances,
        )
        self._hub.mend(answers, before=before)
        # an `incidents` of the version before does not know maintenance: the page does without meanwhile
        complete = services is not None and overview is not None and incidents is not None
        self._hub.model.filled |= complete
        return complete

    def _not_ended(self) -> MaintenanceQuery:
        return MaintenanceQuery(starts_at=self._clock() - OVERDUE, limit=MAINTENANCE_LIMIT)

    async def _incidents(self) -> tuple[Incident, ...]:
        open_ones, recent = await asyncio.gather(
            self._client.call(INCIDENTS_LIST, IncidentQuery(open_only=True, limit=OPEN_LIMIT), timeout_s=self._timeout_s),
            self._client.call(INCIDENTS_LIST, IncidentQuery(limit=RECENT_LIMIT), timeout_s=self._timeout_s),
        )
        return (*open_ones.incidents, *recent.incidents)


async def _answer(question: Coroutine[Any, Any, T]) -> T | None:
    """Return the answer, or None where there is none now: asking again comes by itself."""
    try:
        return await question
    except (rpc.NoAnswer, rpc.Refused) as error:
        log.info("an owner did not answer yet", reason=str(error))
        return None
