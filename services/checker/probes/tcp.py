"""TCP checks: a connection that opens within the time is healthy. Nothing is said over it."""

import asyncio
import socket
from time import perf_counter
from urllib.parse import urlsplit

from services.checker.domain.hosts import literal
from services.checker.domain.kinds import Kind
from services.checker.domain.target import Measurement, Target, Times, failed, not_looked
from services.checker.probes.names import Names, NeverBegun, Way
from services.checker.probes.options import NoOptions, reader
from services.checker.probes.tools import Tools
from services.checker.probes.trouble import OS_WORDS, OWN_TROUBLE, shortage
from shared.contracts.codes import ErrorType, Outcome

MEMORY_OR_SYSTEM = frozenset({socket.EAI_MEMORY, socket.EAI_SYSTEM})
"""What the resolver says when it fails for this machine's sake."""

KIND = Kind("tcp", "TCP", ("tcp",), "tcp://host:port", reader(NoOptions), NoOptions.model_json_schema(), needs_port=True)


async def probe(target: Target, tools: Tools) -> Measurement:
    """Connect to a target once."""
    began = perf_counter()
    deadline = asyncio.get_running_loop().time() + target.timeout_ms / 1000
    ways = await _look_up(target, tools.names, deadline)
    if isinstance(ways, Measurement):
        return ways
    lookup_ms = _ms(perf_counter() - began)
    permitted = [way for way in ways if tools.rules.refusal(str(way[1][0])) is None]
    if not permitted:
        return not_looked(tools.rules.refusal(str(ways[0][1][0])) or "no address")
    error = await _connect_any(permitted, deadline)
    total_ms = _ms(perf_counter() - began)
    if error is None:
        times = Times(name_lookup_ms=lookup_ms, connect_ms=round(total_ms - lookup_ms, 3), total_ms=total_ms)
        return Measurement(Outcome.HEALTHY, response_time_ms=total_ms, times=times)
    if error.errno in OWN_TROUBLE:
        return not_looked(OWN_TROUBLE[error.errno])
    times = Times(name_lookup_ms=lookup_ms, total_ms=total_ms)
    if isinstance(error, TimeoutError) and error.errno is None:
        return failed(ErrorType.TIMEOUT, f"not done within {target.timeout_ms} ms, while connecting", times=times)
    return failed(ErrorType.CONNECTION_ERROR, f"{OS_WORDS.get(error.errno or 0, 'connection failed')}, while connecting", times=times)


async def _look_up(target: Target, names: Names, deadline: float) -> list[Way] | Measurement:
    """Return the addresses, or what is to be said where there are none."""
    parts = urlsplit(target.endpoint_url)
    host, port = parts.hostname or "", parts.port or 0
    address = literal(host)
    if address is not None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004  # IP version
        return [(family, (str(address), port))]
    try:
        return await names.look_up(host, port, deadline)
    except NeverBegun:
        return not_looked("this checker's look-ups of other names took all the time")
    except TimeoutError:
        return failed(ErrorType.TIMEOUT, f"not done within {target.timeout_ms} ms, while looking up the name")
    except (OSError, UnicodeError) as error:
        return _unresolved(error)


def _unresolved(error: OSError | UnicodeError) -> Measurement:
    if isinstance(error, OSError):
        by_name = isinstance(error, socket.gaierror)
        number = shortage() if by_name else error.errno or 0
        if number in OWN_TROUBLE:
            return not_looked(OWN_TROUBLE[number])
        if not by_name or error.errno in MEMORY_OR_SYSTEM:
            return not_looked("this checker's resolver failed")
    return failed(ErrorType.DNS_ERROR, "name not found")


async def _connect_any(ways: list[Way], deadline: float) -> OSError | None:
    """Try the addresses in turn, each with its share of the time left; return what went wrong, or None after success.

    What an address answered says more than what this machine could not do for another, such as IPv6 where it has none.
    """
    loop = asyncio.get_running_loop()
    error = OSError("no address")
    for place, (family, address) in enumerate(ways):
        share = (deadline - loop.time()) / (len(ways) - place)
        try:
            with socket.socket(family, socket.SOCK_STREAM) as connection:
                connection.setblocking(False)
                async with asyncio.timeout(max(0.0, share)):
                    await loop.sock_connect(connection, address)
        except OSError as raised:
            if error.errno is None or error.errno in OWN_TROUBLE or raised.errno not in OWN_TROUBLE:
                error = raised
        else:
            return None
    return error


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
