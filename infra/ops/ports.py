"""Ports of the loopback interface that nobody listens on."""

import random
import socket

from infra.ops.errors import OpsError

BELOW_OUTGOING = range(10_000, 32_000)


def is_free(port: int) -> bool:
    """Whether a server could listen there now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def free_port(preferred: int | None = None) -> int:
    """Return a free port: the preferred one if it is. Somebody else may take it before you do."""
    if preferred and is_free(preferred):
        return preferred
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def free_block(size: int, preferred: int | None = None) -> int:
    """Return the first of `size` free ports in a row: at the preferred place if it is free. Raises OpsError.

    Looked for below the ports that outgoing connections are given, which come and go by the thousand.
    """
    for first in [*([preferred] if preferred else []), *random.sample(BELOW_OUTGOING, 100)]:
        if all(is_free(port) for port in range(first, first + size)):
            return first
    message = f"no {size} free ports in a row on the loopback interface"
    raise OpsError(message)
