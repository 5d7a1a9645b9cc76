"""Where reports become PDF: a process beside the gateway's own, so that no follower of the live feed waits for a page to be drawn.

A thread would not do: drawing is Python from end to end, and whoever else wants to run has to ask it for the interpreter each time.
"""

import asyncio
import hashlib
import multiprocessing
import os
import signal
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import asynccontextmanager

from services.gateway.cache import Cache
from services.gateway.web.reports.content import Content
from services.gateway.web.reports.drawing import pdf

KEEP_S = 3600.0
"""How long a drawn report lies in Redis: the same content is the same file, byte for byte, for ever."""


class Press:
    """Draws one report at a time, the others wait. The process begins with the first one."""

    def __init__(self, cache: Cache) -> None:
        """See `open_press`."""
        self._cache = cache
        self._workers = _workers()

    async def pdf(self, told: Content) -> bytes:
        """Return a report as PDF; one that was drawn lately is not drawn again. A process that died is replaced once."""
        key = f"sla:gateway:paper:{hashlib.sha256(repr(told).encode()).hexdigest()}"
        body = await self._cache.get(key)
        if body is None:
            try:
                body = await self._draw(told)
            except BrokenProcessPool:  # by the system, for its memory
                self._workers = _workers()
                body = await self._draw(told)
            await self._cache.put(key, body, keep_s=KEEP_S)
        return body

    async def _draw(self, told: Content) -> bytes:
        return await asyncio.get_running_loop().run_in_executor(self._workers, pdf, told)

    async def close(self) -> None:
        """Let what is being drawn end, and nothing begin."""
        await asyncio.to_thread(self._workers.shutdown, wait=True, cancel_futures=True)


def _workers() -> ProcessPoolExecutor:
    """Return the pool of one process: a new interpreter, as a fork would take threads' locks with it."""
    return ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn"), initializer=_begin)


def _begin() -> None:
    """Leave signals to the gateway, which ends this process; and end with it, should it be killed."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@asynccontextmanager
async def open_press(cache: Cache) -> AsyncIterator[Press]:
    """Give the press; its process is gone when this is left."""
    press = Press(cache)
    try:
        yield press
    finally:
        await press.close()
