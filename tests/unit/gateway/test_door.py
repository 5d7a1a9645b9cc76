"""The door under a crowd: who waits, who is sent away, what counts against an address."""

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import bcrypt
import pytest
from redis.asyncio import Redis

from services.gateway import usecases
from services.gateway.cache import Cache
from services.gateway.sessions import NAMES, Attempts
from tests.integration.gateway.rig import NOW


class Nobody:
    """A database in which nobody is found."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator["Nobody"]:
        yield self

    async def fetchrow(self, *_: object) -> None:
        return None

    async def fetchval(self, *_: object) -> int:
        return 1


async def test_more_sign_ins_than_can_wait_are_sent_away_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red with a queue without an end."""
    door = usecases.Door(cast("Any", Nobody()), cost=4, session_for=timedelta(hours=1))
    done = threading.Event()
    monkeypatch.setattr(bcrypt, "checkpw", lambda *_: done.wait(10) and False)

    async def come() -> Any:  # noqa: ANN401  # a token or why not
        return await door.sign_in(username="x", password="y", address="", now=NOW)

    waiting = [asyncio.create_task(come()) for _ in range(usecases.MOST_WAITING)]
    await asyncio.sleep(0)
    try:
        with pytest.raises(usecases.TooBusy):
            await asyncio.wait_for(come(), 2)
    finally:
        done.set()
    assert {type(one) for one in await asyncio.gather(*waiting, return_exceptions=True)} == {usecases.WrongCredentials}
    with pytest.raises(usecases.WrongCredentials):
        await come()


async def test_many_names_from_one_address_are_counted_together_and_who_came_in_is_not() -> None:
    """Seen red with a count per name and address only."""
    nowhere = Redis.from_url("redis://127.0.0.1:1/0")
    attempts = Attempts(Cache(nowhere), most=2)
    for number in range(50):
        assert await attempts.allowed(f"right{number}", "a")
        await attempts.taken_back(f"right{number}", "a")
    tried = [await attempts.allowed(f"n{number}", "a") for number in range(2 * NAMES + 1)]
    assert tried == [True] * 2 * NAMES + [False]
    assert await attempts.allowed("n0", "b")
