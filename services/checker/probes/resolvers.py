"""Whether the resolvers of this machine answer at all: asked before a name that could not be looked up is called its service's failure."""

import asyncio
from collections.abc import Awaitable, Callable

import dns.asyncbackend
import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode
import dns.resolver

LOOK_S = 0.8
"""What one look may take."""
APART_S = 1.0
"""How far apart looks begin at least, however many names fail."""


async def any_answers() -> bool:
    """Ask every resolver of the system for the root's name servers. One that says SERVFAIL to that fails for all names."""
    try:
        places = [str(server) for server in dns.resolver.Resolver().nameservers]
    except (OSError, dns.exception.DNSException):
        return False
    asked = [asyncio.create_task(_answers(place)) for place in places]
    try:
        for answer in asyncio.as_completed(asked):
            if await answer:
                return True
    finally:
        for one in asked:
            one.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    return False


async def _answers(place: str) -> bool:
    question = dns.message.make_query(".", "NS")
    try:
        answer = await dns.asyncquery.udp(question, place, timeout=LOOK_S, backend=dns.asyncbackend.get_backend("asyncio"))
    except (OSError, EOFError, ValueError, dns.exception.DNSException):
        return False
    return answer.rcode() is not dns.rcode.SERVFAIL


class Resolvers:
    """Looks that are shared by all who ask. On one loop only."""

    def __init__(self, look: Callable[[], Awaitable[bool]] = any_answers) -> None:
        """`look` says whether any resolver answers; it is bounded and raises nothing."""
        self._look = look
        self._turn = asyncio.Lock()
        self._began_s = float("-inf")
        self._answered = False

    async def answer(self, *, since_s: float) -> bool:
        """Return whether any answered in a look that began at the loop's time `since_s` or later."""
        loop = asyncio.get_running_loop()
        async with self._turn:
            if self._began_s < since_s:
                await asyncio.sleep(self._began_s + APART_S - loop.time())
                began_s = loop.time()
                self._answered = await self._look()
                self._began_s = began_s
            return self._answered
