"""What is to be checked, as the database has it: asked for twice a second, one row; read further only where something changed.

While the database is away, what is known goes on being checked. A definition that cannot be read any more (a kind or an option of another
version, a secret without its key) stays in its place and says at each slot why it is not checked.
"""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from prometheus_client import Gauge

from services.checker import changes, pushes
from services.checker.assertions import read_assertions
from services.checker.changes import Wanted
from services.checker.domain.kinds import Flaw
from services.checker.domain.known import Known
from services.checker.domain.target import Target
from services.checker.probes import KINDS
from services.checker.remembered import Remembered
from services.checker.roster import Roster
from services.checker.secrets import CannotUnseal, Sealer, has_secrets
from shared.clock import Clock
from shared.database import CONNECT_TIMEOUT_S, Connection, Pool, backoff, is_transient
from shared.telemetry import logger

POLL_S = 0.5
ASK_S = 10.0
BEGINNING = (-1, "")
READ_ALIKE = 1024

REVISION = Gauge("sla_checker_definitions_revision", "The newest revision of the definitions that this process knows")
UNREADABLE = Gauge("sla_checker_definitions_unreadable", "Definitions of this region that cannot be read: not checked, and told as unknown")
log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands in the place of options that cannot be read: why."""

    reason: str


class Catalog:
    """Carries definitions from the database to the roster; statuses, and what jobs say of themselves, to what is known."""

    def __init__(
        self,
        pool: Pool,
        roster: Roster,
        *,
        region: str,
        sealer: Sealer,
        known: Known,
        memory: Remembered,
        clock: Clock,
        woken: asyncio.Event,
        hears: Callable[[], Awaitable[bool]],
    ) -> None:
        """Begin with nothing known. Setting `woken` makes it look at once: a definition was changed.

        `hears` says whether the broker can be heard: while it cannot, reports and statuses do not reach the database.
        """
        self._pool = pool
        self._roster = roster
        self._region, self._sealer = region, sealer
        self._known, self._memory, self._clock = known, memory, clock
        self._woken, self._hears = woken, hears
        self._revision, self._place, self._statuses, self._reports = -1, BEGINNING, -1, -1
        self._first: set[str] | None = set()
        self._unreadable: set[str] = set()

    async def run(self) -> None:
        """Look for ever; while the database is away, with growing waits."""
        waits = backoff(first_s=POLL_S, most_s=2.0)
        while True:
            try:
                async with asyncio.timeout(ASK_S):
                    await self.refresh()
            except Exception as error:
                if not is_transient(error):
                    raise
                log.warning(
                    "definitions cannot be read; checking goes on with those known", reason=f"{type(error).__name__}: {error}"[:200]
                )
                await asyncio.sleep(next(waits))
            else:
                waits = backoff(first_s=POLL_S, most_s=2.0)
                await self._rest()

    async def refresh(self) -> None:
        """Hand over what changed since the last look."""
        asked_ms = int(self._clock().timestamp() * 1000)
        async with self._pool.acquire(timeout=CONNECT_TIMEOUT_S) as conn:
            definitions, statuses = await changes.revisions(conn)
            if definitions < self._revision or statuses < self._statuses:
                self._begin_anew()
            if definitions != self._revision:
                await self._read_definitions(conn)
                self._revision = max(definitions, self._place[0])
                REVISION.set(self._revision)
            if statuses != self._statuses:
                self._known.statuses.update(await changes.statuses_after(conn, self._statuses))
                self._statuses = statuses
            await self._read_reports(conn)
        if await self._hears():
            async with self._pool.acquire(timeout=CONNECT_TIMEOUT_S) as conn:
                gaps = await pushes.hear(conn, asked_ms)
            self._known.hear(asked_ms, gaps)

    def _begin_anew(self) -> None:
        """Read everything once more: the database was brought back from a backup."""
        log.warning("the database knows less than this process: everything is read anew")
        self._revision, self._place, self._statuses, self._reports = -1, BEGINNING, -1, -1
        self._first = set()

    async def _read_definitions(self, conn: Connection) -> None:
        """Read page by page; where it is broken off, the next look goes on from there."""
        taken = 0
        while page := await changes.changed_after(conn, *self._place):
            self._take_over(page)
            self._place = page[-1].revision, page[-1].id
            taken += len(page)
            if len(page) < changes.PAGE:
                break
        if self._first is not None:
            self._roster.complete(self._first)
            self._memory.note_only(self._first)
            self._first = None
        if taken:
            log.info("definitions taken over", revision=self._place[0], definitions=taken)

    async def _read_reports(self, conn: Connection) -> None:
        """Read what jobs said of themselves; those that said something new are judged at once."""
        before = self._reports
        self._reports, said = await pushes.states_since(conn, before)
        self._known.pushes.update(said)
        if said and before >= 0:
            self._roster.hasten(said)
        self._reports = max(self._reports, 0)

    def _take_over(self, page: Iterable[Wanted]) -> None:
        targets, gone, kept = [], [], []
        for one in page:
            if one.status is None:
                self._known.statuses.pop(one.id, None)
            else:
                self._known.statuses[one.id] = one.status
            if one.is_wanted and (not one.regions or self._region in one.regions):
                kept.append(one)
                targets.append(self._target(one))
            else:
                gone.append(one.id)
        if self._first is not None:
            self._first.update(target.id for target in targets)
            self._first.difference_update(gone)
        self._unreadable.difference_update(gone)
        UNREADABLE.set(len(self._unreadable))
        self._memory.note(kept, gone)
        self._roster.learn(targets, gone)

    def _target(self, one: Wanted) -> Target:
        target = to_target(one, self._sealer)
        if not isinstance(target.options, Unreadable):
            self._unreadable.discard(one.id)
        elif one.id not in self._unreadable:
            self._unreadable.add(one.id)
            log.error("definition cannot be read; its service is not checked", service_id=one.id, reason=target.options.reason)
        return target

    async def _rest(self) -> None:
        try:
            async with asyncio.timeout(POLL_S):
                await self._woken.wait()
        except TimeoutError:
            return
        finally:
            self._woken.clear()


async def recall(memory: Remembered, roster: Roster, sealer: Sealer, *, after_s: float) -> None:
    """Go on with what the last process knew, unless the database says within `after_s` what is to be done."""
    try:
        async with asyncio.timeout(after_s):
            await roster.settled.wait()
    except TimeoutError:
        definitions, shards = memory.definitions(), memory.shards()
        log.warning("the database is away: checking goes on with what was known before", services=len(definitions), shards=len(shards))
        roster.learn([to_target(one, sealer) for one in definitions], ())
        roster.complete()
        roster.hold(shards)


def to_target(one: Wanted, sealer: Sealer) -> Target:
    """Return what is to be checked. What cannot be read has `Unreadable` options."""
    options, assertions = _read(one, sealer)
    return Target(
        one.id,
        one.kind,
        one.endpoint_url,
        one.check_interval,
        one.timeout,
        options,
        one.created_ms,
        one.revision,
        one.failure_threshold,
        one.recovery_threshold,
        one.retry_interval_ms,
        one.degraded_after_ms,
        assertions,
    )


def _read(one: Wanted, sealer: Sealer) -> tuple[Any, tuple[Any, ...]]:
    if one.kind not in KINDS:
        return Unreadable(f"this checker has no kind {one.kind!r}"), ()
    # Most services are alike in these: what is read once is shared. Not where it holds secrets, which nobody else may keep.
    try:
        options, flaws = (
            KINDS[one.kind].read(sealer.unseal(one.options))
            if has_secrets(one.options)
            else _options_alike(one.kind, json.dumps(one.options, sort_keys=True))
        )
    except CannotUnseal as error:
        return Unreadable(str(error)), ()
    assertions, more = _assertions_alike(one.kind, json.dumps(one.assertions, sort_keys=True))
    if flaws or more:
        return Unreadable("; ".join(f"{flaw.field} {flaw.reason}" for flaw in [*flaws, *more])[:500]), ()
    return options, assertions


@lru_cache(READ_ALIKE)
def _options_alike(kind: str, options: str) -> tuple[Any, list[Flaw]]:
    return KINDS[kind].read(json.loads(options))


@lru_cache(READ_ALIKE)
def _assertions_alike(kind: str, assertions: str) -> tuple[tuple[Any, ...], list[Flaw]]:
    return read_assertions(json.loads(assertions), KINDS[kind])
