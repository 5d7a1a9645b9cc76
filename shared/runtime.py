"""The life of a process: start in the order of dependence, end in the opposite order, within ten seconds of SIGTERM.

What `main` enters on the exit stack is left in reverse, so the order of entering is the drain order read backwards:
pool, publisher, relay, consumers, producers → producers stop, consumers finish, the outbox drains, the publisher and the pool close.
"""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import uvloop

from shared.health import Health, serve_health
from shared.settings import ServiceSettings
from shared.telemetry import configure_logging, logger

DRAIN_S = 7.0
"""How long draining may take in all; what is not done by then is redelivered or lies in the outbox or the spool."""

GARBAGE_AFTER = 200_000
"""Objects made before young garbage is looked for. Python looks after 700, and a message with hundreds of results makes thousands that all
live until they are handled: looking cost three quarters of decoding them. Hardly anything here is in a circle."""

Main = Callable[[AsyncExitStack, Health], Coroutine[Any, Any, None]]
log = logger(__name__)


class CannotStart(Exception):  # noqa: N818  # reads as what it says: the process cannot start, and why
    """The process can never start as things are; the message says what to do. Ends it with exit code 2."""


def run(service: str, settings: ServiceSettings, main: Main) -> None:
    """Run a service until SIGTERM, SIGINT or a failure; then drain. Exit code 0, 1 after a failure, 2 if it cannot start."""
    configure_logging(settings, service=service)
    collect_rarely()
    uvloop.run(_live_and_end(service, settings, main))


def collect_rarely() -> None:
    """Have the collector leave alone what was imported, and look for young garbage after `GARBAGE_AFTER` objects only."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE_AFTER, 20, 20)


async def _live_and_end(service: str, settings: ServiceSettings, main: Main) -> None:
    code = await _live(service, settings, main)
    # everything was drained or given up: a thread that hangs in a name look-up must not keep the process
    logging.shutdown()
    sys.stderr.flush()
    os._exit(code)


async def _live(service: str, settings: ServiceSettings, main: Main) -> int:
    health = Health(service)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serve_health(health, host=settings.health_host, port=settings.health_port):
        stack = AsyncExitStack()
        start = asyncio.create_task(main(stack, health), name="start")
        try:
            code = await _until_told(start, health, stop)
        finally:
            health.stopping()
            await _drain(stack)
    return code


async def _until_told(start: asyncio.Task[None], health: Health, stop: asyncio.Event) -> int:
    told = asyncio.create_task(stop.wait(), name="stop")
    failed = asyncio.create_task(health.failed.wait(), name="failed")
    try:
        await asyncio.wait({start, told, failed}, return_when=asyncio.FIRST_COMPLETED)
        if start.done():
            start.result()
            health.started()
            log.info("started")
            await asyncio.wait({told, failed}, return_when=asyncio.FIRST_COMPLETED)
    except CannotStart as error:
        log.error("cannot start", reason=str(error))  # noqa: TRY400  # the sentence is the message; a traceback would hide it
        return 2
    finally:
        for task in (start, told, failed):
            task.cancel()
        await asyncio.gather(start, told, failed, return_exceptions=True)
    if health.failed.is_set():
        log.error("ending after a failure", reason=health.failure)
        return 1
    log.info("stopping")
    return 0


async def _drain(stack: AsyncExitStack) -> None:
    try:
        async with asyncio.timeout(DRAIN_S):
            await stack.aclose()
    except TimeoutError:
        log.warning("drain cut short: the rest is redelivered or lies in the outbox or the spool", after_s=DRAIN_S)


@asynccontextmanager
async def background(health: Health, name: str, loop: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run `loop` beside everything else until this is left. A loop that raises ends the process: half a service helps nobody."""

    async def guarded() -> None:
        try:
            await loop()
        except Exception as error:
            log.exception("background loop failed", loop=name)
            health.fail(f"{name}: {type(error).__name__}: {error}")

    task = asyncio.create_task(guarded(), name=name)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
