"""How many checks run at once: in all, and against one host. What finds no place waits in the order in which it came."""

from collections import deque
from typing import Generic, TypeVar

from prometheus_client import Gauge

WAITING = Gauge("sla_checker_checks_waiting", "Checks that wait for a place: too many run at once, in all or against their host")
W = TypeVar("W")


class Gate(Generic[W]):
    """The places. A host "" is bounded by the whole only: kinds that connect to nothing."""

    def __init__(self, *, total: int, per_host: int) -> None:
        """Begin with every place free."""
        self._free = total
        self._per_host = per_host
        self._inside: dict[str, int] = {}
        self._ready: deque[tuple[str, W]] = deque()  # only the whole keeps them
        self._held: dict[str, deque[W]] = {}  # their host keeps them, whatever the whole has free

    def enter(self, host: str, waiter: W) -> bool:
        """Take a place, or be queued as `waiter`."""
        inside = self._inside.get(host, 0)
        if inside >= self._per_host and host:
            self._held.setdefault(host, deque()).append(waiter)
            WAITING.inc()
            return False
        if self._free <= 0:
            self._ready.append((host, waiter))
            WAITING.inc()
            return False
        self._free -= 1
        self._inside[host] = inside + 1
        return True

    def leave(self, host: str) -> None:
        """Give a place back; ask `next` until it returns None."""
        self._free += 1
        inside = self._inside[host] - 1
        if inside:
            self._inside[host] = inside
        else:
            del self._inside[host]
        held = self._held.get(host)
        if held:
            self._ready.append((host, held.popleft()))
            if not held:
                del self._held[host]

    def next(self) -> tuple[str, W] | None:
        """Return the next waiter, which has a place now, and its host; None if there is none, or no place."""
        while self._free > 0 and self._ready:
            host, waiter = self._ready.popleft()
            WAITING.dec()
            if self.enter(host, waiter):
                return host, waiter
        return None
