"""`python -m services.checker`: settings, resources, wiring. The only place of the checker that constructs.

What checks and spools is entered first and waits for nobody: while database and broker are away it goes on with what is remembered. What
needs the database is entered when that is there. Left in the order in which nothing is lost: definitions stop, shards are given to
others, the scheduler stops, running checks end or are dropped, results are flushed and published for a bounded time, consumers finish,
the outbox drains, pool and publisher close.
"""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex

from services.checker.catalog import Catalog, Unreadable, recall
from services.checker.consumers import subscribe_all
from services.checker.domain.known import Known
from services.checker.domain.target import Measurement, Target, not_looked
from services.checker.drafts import Terms
from services.checker.isolation import Isolation, canary_targets, watching
from services.checker.leases import Leases
from services.checker.probes import KINDS, PROBES
from services.checker.probes.engine import open_engine
from services.checker.probes.tools import Tools, trusted_authorities
from services.checker.remembered import Remembered
from services.checker.roster import Roster
from services.checker.scheduler import Scheduler
from services.checker.settings import CheckerSettings
from services.checker.shipper import Shipper, shipping
from services.checker.spool import Spool, SpoolUnusable
from services.checker.trials import Trials
from services.checker.upkeep import keep_house
from shared.clock import utc_now
from shared.consuming import consuming, hears, open_consumer
from shared.database import open_pool
from shared.health import Health
from shared.messaging import open_publisher
from shared.migrate import wait_for_schema
from shared.outbox import relaying
from shared.runtime import CannotStart, background, run
from shared.settings import load

SERVICE = "checker"
MIGRATIONS = Path(__file__).parent / "migrations"
CHECKS_DRAIN_S = 1.0
BESIDES = 64
"""HTTP exchanges beside those of checks: canaries and trials."""
RECALL_AFTER_S = 2.0
"""How long the database may take to say what is to be checked before what is remembered is."""


@asynccontextmanager
async def equipped(settings: CheckerSettings, health: Health, known: Known) -> AsyncIterator[Tools]:
    """Run the engine, and give what probes work with."""
    rules = settings.host_rules
    most = settings.concurrency + BESIDES
    trusted = trusted_authorities(settings.ca_file)
    async with open_engine(rules=rules, ca_file=trusted, most=most, on_failure=health.fail) as engine:
        yield Tools(engine, rules, trusted, known=known, proxies=frozenset(settings.allowed_proxies))


@asynccontextmanager
async def checking(settings: CheckerSettings, shipper: Shipper, health: Health, tools: Tools) -> AsyncIterator[Scheduler]:
    """Run the scheduler; when left, running checks end or are dropped within their bound."""
    ask = partial(probe, tools=tools)
    canaries = canary_targets(settings.canaries, KINDS)
    isolation = Isolation(
        canaries, probe=ask, say=shipper.say, clock=utc_now, health=health, checker=shipper.checker, region=settings.region
    )
    scheduler = Scheduler(
        region=settings.region,
        probe=ask,
        deliver=shipper.add,
        clock=utc_now,
        total=settings.concurrency,
        per_host=settings.per_host_concurrency,
        settle=isolation.settle,
    )
    async with watching(isolation, health):
        async with background(health, "scheduler", scheduler.run):
            yield scheduler
        await scheduler.drain(CHECKS_DRAIN_S)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Check a target once, by its kind."""
    if isinstance(target.options, Unreadable):
        return not_looked(target.options.reason)
    return await PROBES[target.kind](target, tools)


def open_spool(settings: CheckerSettings) -> Spool:
    """Open the spool. Raises `CannotStart`."""
    try:
        return Spool(settings.spool_path, max_bytes=settings.spool_max_mb * 1024 * 1024)
    except SpoolUnusable as error:
        raise CannotStart(str(error)) from error


def allow_many_files() -> None:
    """Raise the number of descriptors to what the system permits: every check in flight holds one or two."""
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def memory_of(settings: CheckerSettings) -> Remembered:
    """Open what is remembered, beside the spool: the spool's lock is its lock too."""
    path = settings.spool_path.with_name(f"{settings.spool_path.stem}-remembered.sqlite3")
    return Remembered(path, region=settings.region, new_name=f"{socket.gethostname()}-{token_hex(4)}", clock=utc_now)


@asynccontextmanager
async def sharing(leases: Leases, health: Health) -> AsyncIterator[None]:
    """Hold a share of the region's shards; when left, its running checks end or not, and the others may take it at once."""
    async with background(health, "leases", leases.run):
        yield
    await leases.leave()


async def start(settings: CheckerSettings, stack: AsyncExitStack, health: Health) -> None:
    """Enter everything that the checker is made of: first what checks and spools, which waits for nobody; then what needs the database."""
    allow_many_files()
    enter = stack.enter_async_context
    broker = settings.broker_url.get_secret_value()
    spool = stack.enter_context(open_spool(settings))
    memory = stack.enter_context(memory_of(settings))
    publisher = await enter(open_publisher(broker, name=SERVICE, health=health))
    # What lives on the database is left after the results are safe, though it is entered last.
    connected = await enter(AsyncExitStack())
    shipper = await enter(shipping(spool, publisher, region=settings.region, checker=memory.checker, clock=utc_now, health=health))
    known = Known()
    tools = await enter(equipped(settings, health, known))
    scheduler = await enter(checking(settings, shipper, health, tools))
    roster = Roster(scheduler, utc_now, note_shards=memory.note_shards)
    await enter(background(health, "memory", memory.run))
    await enter(background(health, "recall", lambda: recall(memory, roster, settings.sealer, after_s=RECALL_AFTER_S)))

    pool = await connected.enter_async_context(
        open_pool(settings.database_url.get_secret_value(), name=SERVICE, health=health, size=settings.database_pool_size)
    )
    await wait_for_schema(pool, schema=SERVICE, folder=MIGRATIONS, health=health)
    relay = await connected.enter_async_context(relaying(pool, publisher, health))
    looking = asyncio.Event()

    def changed() -> None:
        relay.wake()
        looking.set()

    consumer = open_consumer(broker, name=SERVICE, publisher=publisher, health=health)
    terms = Terms(settings.host_rules, settings.sealer)
    trials = Trials(tools, terms, settings.region, pool)
    subscribe_all(consumer, pool=pool, terms=terms, changed=changed, try_once=trials.try_once)
    await connected.enter_async_context(consuming(consumer))
    heard = partial(hears, consumer)
    catalog = Catalog(
        pool, roster, region=settings.region, sealer=settings.sealer, known=known, memory=memory, clock=utc_now, woken=looking, hears=heard
    )
    await enter(sharing(Leases(pool, region=settings.region, checker=memory.checker, holder=roster, clock=utc_now), health))
    await enter(background(health, "definitions", catalog.run))
    await enter(background(health, "daily", lambda: keep_house(pool, utc_now, keep_days=settings.raw_retention_days)))


def main() -> None:
    """Run the checker until it is told to stop."""
    settings = load(CheckerSettings)
    run(SERVICE, settings, lambda stack, health: start(settings, stack, health))


if __name__ == "__main__":
    main()
