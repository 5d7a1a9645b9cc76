"""`python -m services.checker`: settings, resources, wiring. The only place of the checker that constructs.

Entered in the order of dependence and left in reverse: definitions and scheduler stop, running checks end or are dropped, results are
flushed and published for a bounded time, consumers finish, the outbox drains, publisher and pool close.
"""

import asyncio
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import certifi

from services.checker.catalog import Catalog, keep_partitions
from services.checker.consumers import subscribe_all
from services.checker.probes import PROBES
from services.checker.probes.engine import open_engine
from services.checker.probes.tools import Tools
from services.checker.scheduler import Scheduler
from services.checker.settings import CheckerSettings
from services.checker.shipper import Shipper, shipping
from services.checker.spool import Spool, SpoolUnusable
from shared.clock import utc_now
from shared.consuming import consuming, open_consumer
from shared.database import open_pool
from shared.health import Health
from shared.messaging import open_publisher
from shared.migrate import wait_for_schema
from shared.outbox import relaying
from shared.runtime import CannotStart, background, run
from shared.settings import load

SERVICE = "checker"
MIGRATIONS = Path(__file__).parent / "migrations"
CHECKS_DRAIN_S = 2.0


@asynccontextmanager
async def checking(settings: CheckerSettings, shipper: Shipper, health: Health) -> AsyncIterator[Scheduler]:
    """Run engine and scheduler; when left, running checks end or are dropped within their bound."""
    rules = settings.host_rules
    async with open_engine(rules=rules, ca_file=ca_file(settings), most=settings.http_concurrency, on_failure=health.fail) as engine:
        tools = Tools(engine, rules, ca_file(settings))
        scheduler = Scheduler(
            region=settings.region, probe=lambda target: PROBES[target.kind](target, tools), deliver=shipper.add, clock=utc_now
        )
        async with background(health, "scheduler", scheduler.run):
            yield scheduler
        await scheduler.drain(CHECKS_DRAIN_S)


def ca_file(settings: CheckerSettings) -> str:
    """Return the file of certificate authorities to trust: the one that was set, the system's, or the one that came along."""
    found = settings.ca_file or ssl.get_default_verify_paths().cafile
    return str(found or certifi.where())


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


async def start(settings: CheckerSettings, stack: AsyncExitStack, health: Health) -> None:
    """Enter everything that the checker is made of."""
    allow_many_files()
    enter = stack.enter_async_context
    broker = settings.broker_url.get_secret_value()
    spool = stack.enter_context(open_spool(settings))
    pool = await enter(open_pool(settings.database_url.get_secret_value(), name=SERVICE, health=health, size=settings.database_pool_size))
    await wait_for_schema(pool, schema=SERVICE, folder=MIGRATIONS, health=health)
    publisher = await enter(open_publisher(broker, name=SERVICE, health=health))
    relay = await enter(relaying(pool, publisher, health))
    checker = f"{socket.gethostname()}:{os.getpid()}"
    looking = asyncio.Event()

    def changed() -> None:
        relay.wake()
        looking.set()

    consumer = open_consumer(broker, name=SERVICE, publisher=publisher, health=health)
    subscribe_all(consumer, pool=pool, rules=settings.host_rules, changed=changed)
    await enter(consuming(consumer))
    shipper = await enter(shipping(spool, publisher, region=settings.region, checker=checker, clock=utc_now, health=health))
    scheduler = await enter(checking(settings, shipper, health))
    await enter(background(health, "definitions", Catalog(pool, scheduler, woken=looking).run))
    await enter(background(health, "partitions", lambda: keep_partitions(pool, utc_now)))


def main() -> None:
    """Run the checker until it is told to stop."""
    settings = load(CheckerSettings)
    run(SERVICE, settings, lambda stack, health: start(settings, stack, health))


if __name__ == "__main__":
    main()
