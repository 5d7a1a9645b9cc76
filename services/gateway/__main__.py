"""`python -m services.gateway`: settings → resources → wiring → run. The only place that constructs."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta

import uvicorn

from services.gateway.api.front import Front
from services.gateway.cache import Cache, open_cache
from services.gateway.database import Database
from services.gateway.live import snapshot
from services.gateway.live.bootstrap import Refresher
from services.gateway.live.feed import Feed
from services.gateway.live.hub import Hub
from services.gateway.live.link import LinkedProtocol
from services.gateway.live.ring import Ring
from services.gateway.live.socket import keep_pinging
from services.gateway.parts import Parts
from services.gateway.sessions import Attempts, Pace, Sessions
from services.gateway.settings import GatewaySettings
from services.gateway.usecases import Door
from services.gateway.web.page import Page
from services.gateway.web.reports.making import Reports
from services.gateway.web.reports.press import Press, open_press
from shared.clock import Clock, utc_now
from shared.health import Health, serving
from shared.messaging import Publisher, open_publisher
from shared.rpc import Client, open_client
from shared.runtime import background, run
from shared.settings import load
from shared.telemetry import logger

NAME = "gateway"
WS_MESSAGE_BYTES = 4_096
"""Clients have nothing to say: what is longer is refused."""
HTTP_GRACE_S = 3

log = logger(__name__)


@dataclass(frozen=True, slots=True)
class Serving:
    """A gateway that serves, and the port of its HTTP."""

    port: int
    hub: Hub


async def start(stack: AsyncExitStack, health: Health, settings: GatewaySettings, *, clock: Clock = utc_now) -> Serving:
    """Enter everything on the stack and serve. Nothing is waited for: what is away is named by the answers."""
    away = Health(NAME)  # what reading goes on without; the process stays ready
    away.started()
    hub = Hub(Ring(settings.ring_events, settings.ring_bytes), clock=clock, buffer_bytes=settings.ws_buffer_bytes)
    health.check("read model", lambda: _why_not_ready(hub))
    cache = await stack.enter_async_context(open_cache(settings.redis_url.get_secret_value(), name=NAME))
    press = await stack.enter_async_context(open_press(cache))
    database = Database()
    await stack.enter_async_context(background(health, "database", lambda: _hold(database, settings, away)))
    client = await stack.enter_async_context(open_client(settings.broker_url.get_secret_value(), name=f"{NAME} rpc", health=away))
    # a health of its own: the client above says already whether the broker is away, without asking it for every visitor of /health/ready
    broker_url, unseen = settings.broker_url.get_secret_value(), Health(NAME)
    publisher = await stack.enter_async_context(
        open_publisher(broker_url, name=f"{NAME} publisher", health=unseen, timeout_s=settings.rpc_timeout_s)
    )
    parts = _parts(settings, clock, hub, client, publisher, cache, database, press)
    await stack.enter_async_context(background(health, "live", lambda: _follow(parts)))
    front = Front(parts, Page(hub, clock=clock), away)
    port = await stack.enter_async_context(serving(_http(front, settings), grace_s=HTTP_GRACE_S))
    log.info("serving", port=port)
    return Serving(port, hub)


def _parts(  # noqa: PLR0917  # the wiring
    settings: GatewaySettings, clock: Clock, hub: Hub, client: Client, publisher: Publisher, cache: Cache, database: Database, press: Press
) -> Parts:
    return Parts(
        settings=settings,
        clock=clock,
        hub=hub,
        client=client,
        cache=cache,
        database=database,
        door=Door(database, cost=settings.bcrypt_cost, session_for=timedelta(hours=settings.session_hours)),
        sessions=Sessions(database, clock=clock, cache_s=settings.session_cache_s, grace_s=settings.session_grace_s),
        attempts=Attempts(cache, most=settings.sign_in_attempts),
        pace=Pace(cache, most=settings.push_calls_per_minute),
        publisher=publisher,
        reports=Reports(press),
    )


async def _hold(database: Database, settings: GatewaySettings, away: Health) -> None:
    await database.keep_open(settings.database_url.get_secret_value(), name=NAME, size=settings.database_pool_size, health=away)


async def _follow(parts: Parts) -> None:
    """Begin from the saved snapshot, if there is one; then follow the stream, ask the owners, save and ping, for ever."""
    settings, hub = parts.settings, parts.hub
    await snapshot.load(hub, parts.cache)
    refresher = Refresher(hub, parts.client, every_s=settings.refresh_every_s, timeout_s=settings.rpc_timeout_s, clock=parts.clock)
    hub.on_broken = refresher.wake
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(Feed(settings.broker_url.get_secret_value(), hub, name=f"{NAME} feed").run())
        tasks.create_task(refresher.run())
        tasks.create_task(snapshot.keep_saving(hub, parts.cache, every_s=settings.snapshot_every_s, clock=parts.clock))
        tasks.create_task(keep_pinging(hub))


async def _why_not_ready(hub: Hub) -> str | None:
    if hub.ready:
        return None
    return "waiting for the stream" if hub.model.filled else "waiting for checker, aggregator and incidents"


def _http(front: Front, settings: GatewaySettings) -> uvicorn.Config:
    return uvicorn.Config(
        front,
        host=settings.http_host,
        port=settings.http_port,
        ws=LinkedProtocol,
        ws_max_size=WS_MESSAGE_BYTES,
        ws_per_message_deflate=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=True,
        forwarded_allow_ips=settings.trusted_proxies,
        timeout_graceful_shutdown=HTTP_GRACE_S - 1,
    )


def main() -> None:
    """Run the gateway until told to stop."""
    settings = load(GatewaySettings)

    async def begin(stack: AsyncExitStack, health: Health) -> None:
        await start(stack, health, settings)

    run(NAME, settings, begin)


if __name__ == "__main__":
    main()
