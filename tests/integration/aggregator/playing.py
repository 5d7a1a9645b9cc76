"""A story of the reference, played to the real use cases: two replicas on one database, restarted between folds."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from services.aggregator import corrections, days, followups, replays, rollups, usecases
from services.aggregator.domain.calendar import LocalDays
from shared.contracts.checks import CHECK_NAMESPACE, CheckBatchV1, CheckResult, check_id
from shared.contracts.codes import ErrorType, MaintenanceStatus, Outcome, TimelineState
from shared.contracts.envelope import Event
from shared.contracts.history import CorrectionDraft, CorrectionRef
from shared.contracts.maintenance import Maintenance
from shared.contracts.services import ServiceDefinition
from shared.database import Pool, is_transient, open_pool, transaction
from shared.health import Health
from tests.integration.aggregator.story import batch
from tests.reference.history import FAILED, Check, Definition, moment_of
from tests.reference.making import Step, Story


def definition(service_id: str, asked: Definition, *, version: int, created: int) -> ServiceDefinition:
    """Return a definition of the reference in the product's words."""
    return ServiceDefinition(
        id=service_id,
        name=service_id,
        display_name=service_id,
        kind="http",
        endpoint_url="http://127.0.0.1:9/",
        check_interval=asked.interval,
        timeout=asked.timeout,
        failure_threshold=asked.failure,
        recovery_threshold=asked.recovery,
        quorum=asked.quorum,
        regions=asked.regions,
        is_active=asked.watched,
        created_at=moment_of(created),
        updated_at=moment_of(asked.since),
        version=version,
    )


def result(service_id: str, check: Check) -> CheckResult:
    """Return a check of the reference as a checker tells it."""
    at = moment_of(check.slot)
    return CheckResult(
        id=check_id(service_id, check.region, at),
        service_id=service_id,
        region=check.region,
        scheduled_at=at,
        checked_at=at,
        outcome=Outcome(check.outcome),
        response_time_ms=check.ms,
        error_type=ErrorType.TIMEOUT if check.outcome == FAILED else None,
        attempt=check.attempt,
    )


class Replicas:
    """Two aggregators, each with a pool of its own. Either may be restarted at any time."""

    def __init__(self, url: str, stacks: Sequence[AsyncExitStack]) -> None:
        self._url, self._stacks = url, stacks
        self.pools: list[Pool] = []

    async def start(self, number: int) -> None:
        """Start a replica, or start it again."""
        await self._stacks[number].aclose()
        pool = await self._stacks[number].enter_async_context(open_pool(self._url, name="test", health=Health("test")))
        self.pools[number : number + 1] = [pool]


@asynccontextmanager
async def replicas(url: str) -> AsyncIterator[Replicas]:
    """Start both."""
    async with AsyncExitStack() as first, AsyncExitStack() as second:
        started = Replicas(url, (first, second))
        for number in range(2):
            await started.start(number)
        yield started


async def play(story: Story, both: Replicas, chance: random.Random) -> None:
    """Let everything arrive, with the workers running in between, and then until nothing is left to do."""
    for place, step in enumerate(story.steps):
        if chance.random() < 0.3:
            await both.start(chance.randrange(2))
        strange = place == 0 and chance.random() < 0.5  # results come before the definition
        if not strange:
            await _learn(story, both, step, chance)
        await asyncio.gather(*(_fold(story, pool, step, mine) for pool, mine in zip(both.pools, _shared(step, chance), strict=True)))
        if strange:
            await _learn(story, both, step, chance)
        await _declare_silence(story, both, step.now)
        for work in chance.sample((timelines_worked, rolled_up, closed), chance.randrange(4)):
            await work(story, both, moment_of(step.now))
    for name in story.services:
        await _lay_over(story, both.pools[0], name, chance)
    for work in (timelines_worked, rolled_up, closed):
        await work(story, both, moment_of(story.steps[-1].now))


def _shared(step: Step, chance: random.Random) -> list[list[Event[CheckBatchV1]]]:
    """Give each batch to one of the replicas or to both, each in an order of its own."""
    mine: list[list[Event[CheckBatchV1]]] = [[], []]
    for found in step.batches:
        event = batch([result(name, check) for name, check in found], sent=moment_of(step.now))
        for number in chance.choice(((0,), (1,), (0, 1))):
            mine[number].append(event)
    for one in mine:
        chance.shuffle(one)
    return mine


async def _fold(story: Story, pool: Pool, step: Step, batches: list[Event[CheckBatchV1]]) -> None:
    for start in range(0, len(batches), 3):
        some = batches[start : start + 3]

        async def once(some: list[Event[CheckBatchV1]] = some) -> None:
            await usecases.introduce_strangers(pool, some)
            async with transaction(pool) as conn:
                await usecases.fold(conn, some, now=moment_of(step.now), days=LocalDays(story.zone))

        await again(once)


async def again(once: Callable[[], Awaitable[object]]) -> None:
    """Do it until the database did not ask to do it again, as the consumer does."""
    for _ in range(20):
        try:
            await once()
        except Exception as error:
            if not is_transient(error):
                raise
        else:
            return
    msg = "twenty transient errors in a row"
    raise AssertionError(msg)


async def _learn(story: Story, both: Replicas, step: Step, chance: random.Random) -> None:
    """Tell both replicas of each definition, as a redelivery would; of two versions perhaps the newer first."""
    for name, number in chance.sample(step.definitions, len(step.definitions)):
        history = story.services[name]
        told = definition(name, history.definitions[number], version=number + 1, created=history.definitions[0].since)
        event_id = str(uuid5(CHECK_NAMESPACE, f"{name} {number}"))

        async def once(pool: Pool, told: ServiceDefinition = told, event_id: str = event_id) -> None:
            async with transaction(pool) as conn:
                await usecases.learn_service(conn, event_id, told, removed_at=None, now=moment_of(step.now))

        await asyncio.gather(*(again(lambda pool=pool, once=once: once(pool)) for pool in both.pools))  # type: ignore[misc]  # bound early


async def _declare_silence(story: Story, both: Replicas, now: int) -> None:
    settled = moment_of(min(history.definitions[0].since for history in story.services.values()))

    async def once(pool: Pool) -> None:
        while await usecases.declare_silent(pool, settled_since=settled, now=moment_of(now)):
            pass
        await followups.recheck(pool, now=moment_of(now))
        await followups.recheck_whole(pool, now=moment_of(now))

    await asyncio.gather(*(once(pool) for pool in both.pools))


async def timelines_worked(_story: Story, both: Replicas, now: datetime) -> None:
    """Both replicas compute timelines until nothing is waiting."""

    async def once(pool: Pool) -> None:
        while await replays.work(pool, clock=lambda: now):
            pass

    await asyncio.gather(*(once(pool) for pool in both.pools))


async def rolled_up(story: Story, both: Replicas, now: datetime) -> None:
    """Roll up what is over, and what was marked, by either replica."""
    more: bool | None = True
    while more:
        async with transaction(both.pools[0]) as conn:
            more = await rollups.advance(conn, now=now, zone=story.zone)
    more = True
    while more:
        async with transaction(both.pools[1]) as conn:
            more = bool(await rollups.repeat(conn, limit=500, zone=story.zone, kept_since=now - timedelta(days=60)))


async def closed(story: Story, both: Replicas, now: datetime) -> None:
    """Close the days that are over."""
    more: bool | None = True
    while more:
        async with transaction(both.pools[0]) as conn:
            more = await days.close_some(conn, now=now, zone=story.zone)


async def _lay_over(story: Story, pool: Pool, name: str, chance: random.Random) -> None:
    """Announce work afterwards, and correct the past; one correction is taken back."""
    history = story.services[name]
    now = moment_of(history.now)
    for stay in history.maintenances:
        window = Maintenance(
            id=UUID(int=chance.getrandbits(128)),
            title="Work",
            services=(name,),
            status=MaintenanceStatus.COMPLETED,
            starts_at=moment_of(stay.start),
            ends_at=moment_of(stay.end),
            created_by="somebody",
            created_at=moment_of(stay.start),
            version=1,
        )
        async with transaction(pool) as conn:
            await followups.hear_maintenance(conn, str(window.id), window)
    begin = moment_of(history.definitions[0].since)
    mistake = await _correct(pool, name, (begin, now, "inactive"), chance, now)
    for one in history.corrections:
        await _correct(pool, name, (moment_of(one.start), moment_of(one.end), one.state), chance, now)
    async with transaction(pool) as conn:
        await corrections.revoke(conn, CorrectionRef(id=mistake, actor="somebody"), now=now)


async def _correct(pool: Pool, name: str, what: tuple[datetime, datetime, str], chance: random.Random, now: datetime) -> UUID:
    start, end, state = what
    draft = CorrectionDraft(
        id=UUID(int=chance.getrandbits(128)),
        service_id=name,
        starts_at=start,
        ends_at=end,
        state=TimelineState(state),
        reason="it was so",
        actor="somebody",
    )
    async with transaction(pool) as conn:
        await corrections.make(conn, draft, now=now)
    return draft.id
