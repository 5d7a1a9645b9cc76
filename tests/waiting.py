"""Waiting for what must come true: a condition with a deadline, never a sleep of a guessed length."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

POLL_S = 0.05


async def until(condition: Callable[[], Awaitable[T]], *, within_s: float, what: str) -> T:
    """Return the first true value of `condition`. Fails after `within_s` seconds, naming what was awaited and the last value."""
    deadline = time.monotonic() + within_s
    while True:
        value = await condition()
        if value:
            return value
        if time.monotonic() > deadline:
            msg = f"not within {within_s:g} s: {what} (last: {value!r})"
            raise AssertionError(msg)
        await asyncio.sleep(POLL_S)
