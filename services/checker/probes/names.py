"""Names looked up on daemon threads: the system's resolver blocks for as long as it likes and cannot be called off.

Not the loop's default executor: a few names that hang would keep its threads from all others, and the process's end would wait for them.
Checks that ask for a name while it is being looked up share the answer, so that a name that hangs holds one thread however often it is
checked. A look-up that nobody waits for any more runs out unheard.
"""

import asyncio
import socket
import threading
from queue import SimpleQueue
from typing import Any

from services.checker.probes.resolvers import Resolvers

SocketAddress = tuple[Any, ...]
Way = tuple[int, SocketAddress]
"""Address family and socket address."""

THREADS = 64
WITHOUT_AN_ANSWER = frozenset({socket.EAI_AGAIN, socket.EAI_FAIL})
"""What the system says of a name that no resolver told anything of, not even that it does not exist."""


class NeverBegun(TimeoutError):  # noqa: N818  # says what happened
    """No thread was free within the deadline: nothing was learnt of the name."""


class ResolverAway(OSError):  # noqa: N818  # says what happened
    """No resolver of this machine answers anything: nothing was learnt of the name."""


class _Job:
    """One look-up, shared by all who wait for it."""

    __slots__ = ("begun", "found", "host", "loop", "port")

    def __init__(self, host: str, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.host, self.port, self.loop = host, port, loop
        self.found: asyncio.Future[list[Way]] = loop.create_future()
        self.begun = False


class Names:
    """The threads and what waits for them; a thread is begun when work finds none free. Call on one loop only."""

    def __init__(self, threads: int = THREADS, resolvers: Resolvers | None = None) -> None:
        """Use at most so many threads. `resolvers` tell whether a look-up failed for the name's sake or for theirs."""
        self._most = threads
        self._resolvers = resolvers or Resolvers()
        self._threads = 0
        self._jobs: dict[tuple[str, int], _Job] = {}
        self._queue: SimpleQueue[_Job] = SimpleQueue()

    async def look_up(self, host: str, port: int, deadline: float) -> list[Way]:
        """Return the addresses, by the loop's time `deadline`.

        Raises `socket.gaierror`, `UnicodeError`, `OSError`, `TimeoutError`, `NeverBegun` if no thread was free, and `ResolverAway`, perhaps
        a little after the deadline.
        """
        began_s = asyncio.get_running_loop().time()
        job = self._jobs.get((host, port)) or self._begin(host, port)
        try:
            async with asyncio.timeout_at(deadline):
                return await asyncio.shield(job.found)
        except TimeoutError:
            if not job.begun:
                raise NeverBegun from None
            if await self._resolvers.answer(since_s=began_s):
                raise
        except socket.gaierror as error:
            if error.errno not in WITHOUT_AN_ANSWER or await self._resolvers.answer(since_s=began_s):
                raise
        raise ResolverAway

    def _begin(self, host: str, port: int) -> _Job:
        job = self._jobs[host, port] = _Job(host, port, asyncio.get_running_loop())
        job.found.add_done_callback(lambda _: self._ended(job))
        self._queue.put(job)
        if self._threads < min(self._most, len(self._jobs)):
            threading.Thread(target=_work, args=(self._queue,), name="names", daemon=True).start()
            self._threads += 1
        return job

    def _ended(self, job: _Job) -> None:
        del self._jobs[job.host, job.port]
        if not job.found.cancelled():
            job.found.exception()  # whoever waited has it; if nobody did, it is nobody's


def _work(queue: "SimpleQueue[_Job]") -> None:
    while True:
        job = queue.get()
        job.begun = True
        found: list[Way] | Exception
        try:
            found = [(family, address) for family, _, _, _, address in socket.getaddrinfo(job.host, job.port, type=socket.SOCK_STREAM)]
        except Exception as error:  # noqa: BLE001  # a thread has no caller: whoever waits is told
            found = error
        try:
            job.loop.call_soon_threadsafe(_tell, job, found)
        except RuntimeError:
            return  # the loop is closed: nobody is left to be told


def _tell(job: _Job, found: list[Way] | Exception) -> None:
    if job.found.done():
        return
    if isinstance(found, Exception):
        job.found.set_exception(found)
    else:
        job.found.set_result(found)
