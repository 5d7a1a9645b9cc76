"""libcurl's multi interface on a thread of its own: thousands of HTTP exchanges at once for a tenth of the CPU of a Python client.

The thread waits in epoll for curl's sockets and for an eventfd that the event loop writes to when it hands work over. Finished
exchanges go back in batches, one wake-up of the loop each. (curl's own `select` is not used: it cannot see a descriptor above 1023.)
Everything of curl is touched by this thread only.

Whoever asks for an exchange with a named host gives its addresses along (journey.py): curl's own look-ups have 20 threads for all, and a
resolver that swallows questions would let other names wait behind them.
"""

import asyncio
import os
import select
import threading
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache

import pycurl
from prometheus_client import Counter, Gauge

from services.checker.domain.hosts import HostRules
from services.checker.probes.exchange import Exchange, Handle, Request, Shape, Shelf, unable

LONGEST_WAIT_S = 1.0
DELIVER_S = 0.01
"""How long a finished exchange may wait for others to be handed over with: each hand-over wakes the event loop."""
JOIN_S = 2.0

RUNNING = Gauge("sla_checker_http_running", "HTTP exchanges in flight")
WAITING = Gauge("sla_checker_http_waiting", "HTTP exchanges that wait because as many as allowed are in flight")
EXCHANGES = Counter("sla_checker_http_exchanges_total", "HTTP exchanges that ended, well or not")


class EngineStopped(RuntimeError):  # noqa: N818  # says what happened
    """The exchange was given up because the process is stopping."""


class Engine:
    """The thread and what goes in and out of it. Made by `open_engine`."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, *, rules: HostRules, ca_file: str, most: int, on_failure: Callable[[str], None]
    ) -> None:
        """Run at most `most` exchanges at once. `on_failure` is called on the loop if the thread dies."""
        self._loop = loop
        self._ca_file = ca_file
        self._most = most
        self._on_failure = on_failure
        # Addresses repeat: a checker meets a service's few again and again.
        self._vet = lru_cache(maxsize=65_536)(rules.refusal)
        self._inbox: deque[tuple[Request, asyncio.Future[Exchange]]] = deque()
        self._asleep = False
        self._closing = False
        self._shelf = Shelf()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll = select.epoll()
        self._watched: set[int] = set()
        self._timer: float | None = None
        self._deliver_at: float | None = None
        self._idle: defaultdict[Shape, list[Handle]] = defaultdict(list)
        self._running: dict[pycurl.Curl, Handle] = {}
        self._finished: list[tuple[asyncio.Future[Exchange], Exchange]] = []
        self._thread = threading.Thread(target=self._live, name="http-engine", daemon=True)

    def fetch(self, request: Request) -> "asyncio.Future[Exchange]":
        """Begin an exchange and return its future. A cancelled future lets the exchange run out, unheard. Call on the loop only."""
        future: asyncio.Future[Exchange] = self._loop.create_future()
        self._inbox.append((request, future))
        if self._asleep:
            self._asleep = False
            os.eventfd_write(self._bell, 1)
        return future

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def close(self) -> None:
        """Give up what is in flight (`EngineStopped`) and end the thread."""
        self._closing = True
        os.eventfd_write(self._bell, 1)
        await asyncio.to_thread(self._thread.join, JOIN_S)

    # Everything below runs on the thread.

    def _live(self) -> None:
        failure = "stopped"
        try:
            self._work()
        except Exception as error:  # noqa: BLE001  # a thread has no caller: the owner is told, and ends the process
            failure = f"http engine: {type(error).__name__}: {error}"
        self._tell(self._end, failure)

    def _work(self) -> None:
        multi = pycurl.CurlMulti()
        multi.setopt(pycurl.M_SOCKETFUNCTION, self._watch)
        multi.setopt(pycurl.M_TIMERFUNCTION, self._set_timer)
        multi.setopt(pycurl.M_PIPELINING, 0)
        self._epoll.register(self._bell, select.EPOLLIN)
        while not self._closing:
            self._begin(multi)
            self._step(multi)
            self._collect(multi)
        for curl in self._running:
            multi.remove_handle(curl)
        multi.close()

    def _begin(self, multi: pycurl.CurlMulti) -> None:
        while self._inbox and len(self._running) < self._most:
            request, future = self._inbox.popleft()
            idle = self._idle[request.shape]
            handle = idle.pop() if idle else Handle(request.shape, vet=self._vet, ca_file=self._ca_file, shelf=self._shelf)
            try:
                handle.begin(request, future)
            except (pycurl.error, UnicodeError) as error:
                # What curl cannot even be told, such as a host name that no encoding fits, is an answer like any other.
                self._finished.append((future, unable(str(error))))
                continue
            self._running[handle.curl] = handle
            multi.add_handle(handle.curl)

    def _step(self, multi: pycurl.CurlMulti) -> None:
        until = [moment for moment in (self._timer, self._deliver_at) if moment is not None]
        wait = min(LONGEST_WAIT_S, max(0.0, min(until) - time.monotonic())) if until else LONGEST_WAIT_S
        # Said before the last look at the inbox, so that a hand-over is either seen here or rings.
        self._asleep = True
        events = self._epoll.poll(0 if self._inbox and len(self._running) < self._most else wait)
        self._asleep = False
        for descriptor, event in events:
            if descriptor == self._bell:
                os.eventfd_read(self._bell)
            else:
                multi.socket_action(descriptor, _as_curl(event))
        if self._timer is not None and time.monotonic() >= self._timer:
            self._timer = None
            multi.socket_action(pycurl.SOCKET_TIMEOUT, 0)

    def _collect(self, multi: pycurl.CurlMulti) -> None:
        left = 1
        while left:
            left, well, badly = multi.info_read()
            for curl in well:
                self._finish(multi, curl, 0, "")
            for curl, code, message in badly:
                self._finish(multi, curl, code, message)
        if not self._finished:
            return
        now = time.monotonic()
        if self._deliver_at is None:
            self._deliver_at = now + DELIVER_S
        if now >= self._deliver_at:
            self._deliver_at = None
            batch, self._finished = self._finished, []
            EXCHANGES.inc(len(batch))
            RUNNING.set(len(self._running))
            WAITING.set(len(self._inbox))
            self._tell(_deliver, batch)

    def _finish(self, multi: pycurl.CurlMulti, curl: pycurl.Curl, code: int, message: str) -> None:
        handle = self._running.pop(curl)
        self._finished.append((handle.future, handle.ended(code, message)))
        multi.remove_handle(curl)
        handle.tidy()
        self._idle[handle.shape].append(handle)

    def _watch(self, what: int, descriptor: int, _multi: object, _data: object) -> None:
        if what == pycurl.POLL_REMOVE:
            if descriptor in self._watched:
                self._watched.discard(descriptor)
                _forget(self._epoll, descriptor)
            return
        mask = (select.EPOLLIN if what & pycurl.POLL_IN else 0) | (select.EPOLLOUT if what & pycurl.POLL_OUT else 0)
        if descriptor in self._watched:
            self._epoll.modify(descriptor, mask)
        else:
            self._epoll.register(descriptor, mask)
            self._watched.add(descriptor)

    def _set_timer(self, wait_ms: int) -> None:
        self._timer = None if wait_ms < 0 else time.monotonic() + wait_ms / 1000

    def _tell(self, function: Callable[..., None], *arguments: object) -> None:
        try:
            self._loop.call_soon_threadsafe(function, *arguments)
        except RuntimeError:
            # The loop is closed: nobody is left to be told.
            self._closing = True

    def _end(self, failure: str) -> None:
        """On the loop: let nobody wait for an exchange that will not come."""
        for future in [one.future for one in self._running.values()] + [future for _request, future in self._inbox]:
            if not future.done():
                future.set_exception(EngineStopped(failure))
        self._running.clear()
        self._inbox.clear()
        if not self._closing:
            self._on_failure(failure)
        self._epoll.close()
        os.close(self._bell)


@asynccontextmanager
async def open_engine(*, rules: HostRules, ca_file: str, most: int, on_failure: Callable[[str], None]) -> AsyncIterator[Engine]:
    """Run an engine until this is left. `ca_file` holds the certificate authorities that TLS trusts."""
    engine = Engine(asyncio.get_running_loop(), rules=rules, ca_file=ca_file, most=most, on_failure=on_failure)
    engine.start()
    try:
        yield engine
    finally:
        await engine.close()


def _deliver(batch: "list[tuple[asyncio.Future[Exchange], Exchange]]") -> None:
    for future, exchange in batch:
        if not future.done():
            future.set_result(exchange)


def _as_curl(event: int) -> int:
    bits = 0
    if event & (select.EPOLLIN | select.EPOLLHUP):
        bits |= pycurl.CSELECT_IN
    if event & select.EPOLLOUT:
        bits |= pycurl.CSELECT_OUT
    if event & select.EPOLLERR:
        bits |= pycurl.CSELECT_ERR
    return bits


def _forget(epoll: select.epoll, descriptor: int) -> None:
    try:
        epoll.unregister(descriptor)
    except (FileNotFoundError, OSError):
        # curl closed it first, and with that epoll forgot it.
        return
