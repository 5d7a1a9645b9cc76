"""A story of the reference, played to the real use cases: some replicas on one database.

They are restarted between steps, and now and then killed before a commit.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from services.aggregator import corrections, days, followups, replays, rollups, slas, usecases
from services.aggregator.domain.calendar import LocalDays
from shared.contracts.checks import CHECK_NAMESPACE, CheckBatchV1, CheckResult, check_id
from shared.contracts.codes import ErrorType, MaintenanceStatus, Outcome, SlaPeriod, TimelineState
from shared.contracts.envelope import Event
from shared.contracts.history import CorrectionDraft, CorrectionRef, SlaContractDraft, SlaExclusionDraft
from shared.contracts.maintenance import Maintenance
from shared.contracts.services import ServiceDefinition
from shared.contracts.sla import SlaContract
from shared.database import Pool, is_transient, open_pool, transaction
from shared.health import Health
from tests.integration.aggregator.story import batch
from tests.reference.history import FAILED, Check, Correction, Definition, Stay, moment_of
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


REPLICAS = 3
CONTRACT = "gold"


class Replicas:
    """Aggregators, each with a pool of its own. Any may be restarted at any time: what it knows is what it reads."""

    def __init__(self, url: str, stacks: Sequence[AsyncExitStack]) -> None:
        self._url, self._stacks = url, stacks
        self.pools: list[Pool] = []

    async def start(self, number: int) -> None:
        """Start a replica, or start it again."""
        await self._stacks[number].aclose()
        pool = await self._stacks[number].enter_async_context(open_pool(self._url, name="test", health=Health("test")))
        self.pools[number : number + 1] = [pool]

    def some(self, chance: random.Random) -> Pool:
        """Return one of them."""
        return chance.choice(self.pools)


@asynccontextmanager
async def replicas(url: str) -> AsyncIterator[Replicas]:
    """Start all."""
    async with AsyncExitStack() as stack:
        stacks = [await stack.enter_async_context(AsyncExitStack()) for _ in range(REPLICAS)]
        started = Replicas(url, stacks)
        for number in range(REPLICAS):
            await started.start(number)
        yield started


Look = Callable[[int], Awaitable[None]]
"""What is done after a step, by its number, when everything that can be computed is."""


async def play(story: Story, all_: Replicas, chance: random.Random, *, look: Look | None = None, looks: Collection[int] = ()) -> None:
    """Let everything arrive, with the workers running in between, and then until nothing is left to do. `looks`: after which steps."""
    for place, step in enumerate(story.steps):
        if chance.random() < 0.3:
            await all_.start(chance.randrange(REPLICAS))
        strange = place == 0 and chance.random() < 0.5  # results come before the definition
        if not strange:
            await _learn(story, all_, step, chance)
        await asyncio.gather(*(_fold(story, pool, step, mine) for pool, mine in zip(all_.pools, _shared(step, chance), strict=True)))
        if strange:
            await _learn(story, all_, step, chance)
        await _declare_silence(story, all_, step.now)
        await _correct(story, all_.some(chance), step.now)
        await _agree(story, all_.some(chance), place)
        last = place == len(story.steps) - 1
        if last:
            await _announce(story, all_.some(chance), chance)
        works = WORKS if last or place in looks else chance.sample(WORKS, chance.choice((0, 0, 0, 1, 2)))
        for work in works:
            await work(story, all_, moment_of(step.now), chance)
        if look is not None and place in looks:
            await look(place)


def _shared(step: Step, chance: random.Random) -> list[list[Event[CheckBatchV1]]]:
    """Give each batch to one of the replicas or to some, each in an order of its own."""
    mine: list[list[Event[CheckBatchV1]]] = [[] for _ in range(REPLICAS)]
    for found in step.batches:
        event = batch([result(name, check) for name, check in found], sent=moment_of(step.now))
        for number in chance.sample(range(REPLICAS), chance.choice((1, 1, 1, 2))):
            mine[number].append(event)
    for one in mine:
        chance.shuffle(one)
    return mine


class KilledError(Exception):
    """A replica ended before it committed."""


async def _fold(story: Story, pool: Pool, step: Step, batches: list[Event[CheckBatchV1]]) -> None:
    """Fold some batches at a time; now and then it ends before the commit, and comes again."""
    for start in range(0, len(batches), 3):
        some = batches[start : start + 3]

        async def once(some: list[Event[CheckBatchV1]] = some, *, killed: bool = False) -> None:
            await usecases.introduce_strangers(pool, some)
            async with transaction(pool) as conn:
                await usecases.fold(conn, some, now=moment_of(step.now), days=LocalDays(story.zone))
                if killed:
                    raise KilledError

        if (start // 3 + step.now) % 11 == 0:
            with suppress(KilledError):
                await again(lambda once=once: once(killed=True))  # type: ignore[misc]  # bound early
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


async def _learn(story: Story, all_: Replicas, step: Step, chance: random.Random) -> None:
    """Tell one replica or two of each definition, as a redelivery would; of two versions perhaps the newer first."""
    told: list[list[tuple[str, int]]] = [[] for _ in range(REPLICAS)]
    for one in chance.sample(step.definitions, len(step.definitions)):
        for number in chance.sample(range(REPLICAS), chance.choice((1, 1, 2))):
            told[number].append(one)

    async def once(pool: Pool, name: str, number: int) -> None:
        history = story.services[name]
        one = definition(name, history.definitions[number], version=number + 1, created=history.definitions[0].since)
        async with transaction(pool) as conn:
            event_id = str(uuid5(CHECK_NAMESPACE, f"{name} {number}"))
            await usecases.learn_service(conn, event_id, one, removed_at=None, now=moment_of(step.now))

    async def each(pool: Pool, mine: list[tuple[str, int]]) -> None:
        for name, number in mine:
            await again(lambda name=name, number=number: once(pool, name, number))  # type: ignore[misc]  # bound early

    await asyncio.gather(*(each(pool, mine) for pool, mine in zip(all_.pools, told, strict=True)))


async def _declare_silence(story: Story, all_: Replicas, now: int) -> None:
    settled = moment_of(min(history.definitions[0].since for history in story.services.values()))

    async def once(pool: Pool) -> None:
        while await usecases.declare_silent(pool, settled_since=settled, now=moment_of(now)):
            pass
        await followups.recheck(pool, now=moment_of(now))
        await followups.recheck_whole(pool, now=moment_of(now))

    await asyncio.gather(*(again(lambda pool=pool: once(pool)) for pool in all_.pools[:2]))  # type: ignore[misc]  # bound early


async def timelines_worked(_story: Story, all_: Replicas, now: datetime, chance: random.Random) -> None:
    """One replica, or two at once, compute timelines until nothing is waiting."""

    async def once(pool: Pool) -> None:
        while await replays.work(pool, clock=lambda: now):
            pass

    await asyncio.gather(*(once(pool) for pool in chance.sample(all_.pools, chance.choice((1, 1, 1, 2)))))


async def rolled_up(story: Story, all_: Replicas, now: datetime, chance: random.Random) -> None:
    """Roll up what is over, and what was marked, by any replica."""
    more: bool | None = True
    while more:
        async with transaction(all_.some(chance)) as conn:
            more = await rollups.advance(conn, now=now, zone=story.zone)
    more = True
    while more:
        async with transaction(all_.some(chance)) as conn:
            more = bool(await rollups.repeat(conn, limit=2000, zone=story.zone, kept_since=now - timedelta(days=60)))


async def closed(story: Story, all_: Replicas, now: datetime, chance: random.Random) -> None:
    """Close the days that are over."""
    more: bool | None = True
    while more:
        async with transaction(all_.some(chance)) as conn:
            more = await days.close_some(conn, now=now, zone=story.zone)


WORKS = (timelines_worked, rolled_up, closed)


async def _announce(story: Story, pool: Pool, chance: random.Random) -> None:
    """Tell afterwards of work that was announced: its versions in any order. Work that was cancelled counts for nothing."""
    for name, history in story.services.items():
        for stay in history.maintenances:
            first = _window(chance, name, Stay(stay.start, stay.end + 3_600_000))
            over = {"status": MaintenanceStatus.COMPLETED, "ends_at": moment_of(stay.end), "version": 2}
            for one in chance.sample((first, first.model_copy(update=over)), 2):
                await _hear(pool, one)
        if chance.random() < 0.2:
            first = _window(chance, name, Stay(history.definitions[0].since, history.now))
            for one in chance.sample((first, first.model_copy(update={"status": MaintenanceStatus.CANCELLED, "version": 2})), 2):
                await _hear(pool, one)


def _window(chance: random.Random, name: str, stay: Stay) -> Maintenance:
    return Maintenance(
        id=UUID(int=chance.getrandbits(128)),
        title="Work",
        services=(name,),
        status=MaintenanceStatus.SCHEDULED,
        starts_at=moment_of(stay.start),
        ends_at=moment_of(stay.end),
        created_by="somebody",
        created_at=moment_of(stay.start),
        version=1,
    )


async def _hear(pool: Pool, window: Maintenance) -> None:
    async with transaction(pool) as conn:
        await followups.hear_maintenance(conn, f"{window.id} {window.version}", window)


async def _agree(story: Story, pool: Pool, place: int) -> None:
    """Make the contract in the first step, and what it excludes when it is said, each asked for twice."""
    if (asked := story.agreement) is None:
        return
    now = moment_of(story.steps[place].now)
    if place == 0:
        contract = SlaContract(
            id=CONTRACT,
            name="Gold",
            target=asked.target,
            period=SlaPeriod(asked.period),
            rolling_days=asked.days,
            time_zone=story.zone.key,
            services=asked.services,
            partial_share=asked.partial,
            count_maintenance=asked.maintenance,
            count_unknown=asked.unknown,
        )
        async with transaction(pool) as conn:
            await slas.put(conn, SlaContractDraft(contract=contract, actor="somebody"), now=now)
    for number, one in enumerate(asked.exclusions):
        draft = SlaExclusionDraft(
            contract_id=CONTRACT,
            id=uuid5(CHECK_NAMESPACE, f"exclusion {number}"),
            starts_at=moment_of(one.start),
            ends_at=moment_of(one.end),
            reason="not ours",
            actor="somebody",
        )
        for _ in range(2 if moment_of(one.made) == now else 0):
            async with transaction(pool) as conn:
                await slas.exclude(conn, draft, now=now)


async def _correct(story: Story, pool: Pool, now: int) -> None:
    """Make the corrections of this moment, each asked for twice, and take back those that were mistakes."""
    for name, history in story.services.items():
        for number, one in enumerate(history.corrections):
            id_ = uuid5(CHECK_NAMESPACE, f"{name} correction {number}")
            if one.made == now:
                for _ in range(2):
                    async with transaction(pool) as conn:
                        await corrections.make(conn, _draft(name, one, id_), now=moment_of(now))
            if one.revoked == now:
                async with transaction(pool) as conn:
                    await corrections.revoke(conn, CorrectionRef(id=id_, actor="somebody"), now=moment_of(now))


def _draft(name: str, one: Correction, id_: UUID) -> CorrectionDraft:
    return CorrectionDraft(
        id=id_,
        service_id=name,
        starts_at=moment_of(one.start),
        ends_at=moment_of(one.end),
        state=TimelineState(one.state),
        reason="it was so",
        actor="somebody",
    )
