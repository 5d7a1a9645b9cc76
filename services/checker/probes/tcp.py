"""TCP checks: a connection that opens within the time is healthy. Nothing is said over it."""

import asyncio
import errno
import socket
from time import perf_counter
from typing import Any
from urllib.parse import urlsplit

from services.checker.domain.hosts import HostRules, literal
from services.checker.domain.target import Measurement, Target, Times, failed, not_looked
from services.checker.probes.http import OS_WORDS
from shared.contracts.codes import ErrorType, Outcome

SocketAddress = tuple[Any, ...]
Way = tuple[int, SocketAddress]
"""Address family and socket address."""


async def probe(target: Target, rules: HostRules) -> Measurement:
    """Connect to a target once."""
    began = perf_counter()
    parts = urlsplit(target.endpoint_url)
    deadline = asyncio.get_running_loop().time() + target.timeout_ms / 1000
    try:
        async with asyncio.timeout_at(deadline):
            ways = await _look_up(parts.hostname or "", parts.port or 0)
    except TimeoutError:
        return failed(ErrorType.TIMEOUT, f"not done within {target.timeout_ms} ms, while looking up the name")
    except (socket.gaierror, UnicodeError):
        return failed(ErrorType.DNS_ERROR, "name not found")
    looked_up = perf_counter()
    permitted = [way for way in ways if rules.refusal(str(way[1][0])) is None]
    if not permitted:
        return not_looked(rules.refusal(str(ways[0][1][0])) or "no address")
    error = await _connect_any(permitted, deadline)
    lookup_ms, total_ms = _ms(looked_up - began), _ms(perf_counter() - began)
    if error is None:
        times = Times(name_lookup_ms=lookup_ms, connect_ms=round(total_ms - lookup_ms, 3), total_ms=total_ms)
        return Measurement(Outcome.HEALTHY, response_time_ms=total_ms, times=times)
    times = Times(name_lookup_ms=lookup_ms, total_ms=total_ms)
    if isinstance(error, TimeoutError) and error.errno is None:
        return failed(ErrorType.TIMEOUT, f"not done within {target.timeout_ms} ms, while connecting", times=times)
    return failed(ErrorType.CONNECTION_ERROR, f"{OS_WORDS.get(error.errno or 0, 'connection failed')}, while connecting", times=times)


async def _look_up(host: str, port: int) -> list[Way]:
    address = literal(host)
    if address is not None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004  # IP version
        return [(family, (str(address), port))]
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _type, _protocol, _name, address in found]


async def _connect_any(ways: list[Way], deadline: float) -> OSError | None:
    """Try the addresses in turn, each with its share of the time left; return the last error, or None after success."""
    loop = asyncio.get_running_loop()
    error: OSError | None = None
    for place, (family, address) in enumerate(ways):
        share = (deadline - loop.time()) / (len(ways) - place)
        try:
            with socket.socket(family, socket.SOCK_STREAM) as connection:
                connection.setblocking(False)
                async with asyncio.timeout(max(0.0, share)):
                    await loop.sock_connect(connection, address)
        except OSError as raised:
            error = raised
        else:
            return None
    return error or OSError(errno.EADDRNOTAVAIL, "no address")


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
