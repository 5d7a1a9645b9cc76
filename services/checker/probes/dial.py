"""Names resolved, addresses vetted, sockets connected: the one way to a service for every kind but HTTP (whose engine vets by itself).

What goes wrong on the way ends the check: `Ended` carries the measurement.
"""

import socket
from dataclasses import dataclass

from services.checker.domain.target import Measurement, Target
from services.checker.probes.tools import Tools


class Ended(Exception):  # noqa: N818  # says what happened
    """The check is over before it came to the protocol; `measurement` says why."""

    def __init__(self, measurement: Measurement) -> None:
        """Carry what is to be told."""
        super().__init__(measurement.error_message)
        self.measurement = measurement


@dataclass(slots=True)
class Dialled:
    """A way to the service: an open, non-blocking socket that the caller closes, and what it took."""

    connection: socket.socket
    address: str
    port: int
    host: str
    lookup_ms: float
    connect_ms: float


async def dial(target: Target, tools: Tools, *, deadline: float, default_port: int | None = None) -> Dialled:
    """Connect to the target's host. `deadline` is the loop's time. Raises `Ended`."""
    raise NotImplementedError


async def resolve(target: Target, tools: Tools, *, deadline: float, default_port: int | None = None) -> tuple[str, int, float]:
    """Return a permitted address of the target's host, its port, and what the look-up took (ms), for libraries that dial themselves.

    The address is to be given to the library in place of the name. Raises `Ended`.
    """
    raise NotImplementedError
