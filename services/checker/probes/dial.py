"""Names resolved, addresses vetted, sockets connected: the one way to a service for every kind but HTTP (whose engine vets by itself).

What goes wrong on the way ends the check: `services.checker.probes.talk.Ended` is raised.
"""

import asyncio
import socket
from dataclasses import dataclass
from time import perf_counter
from urllib.parse import urlsplit

from services.checker.domain.hosts import literal
from services.checker.domain.target import failed, not_looked
from services.checker.probes.names import WITHOUT_AN_ANSWER, NeverBegun, ResolverAway, Way
from services.checker.probes.talk import Ended, Talk
from services.checker.probes.tools import Tools
from services.checker.probes.trouble import OWN_TROUBLE, shortage
from shared.contracts.codes import ErrorType

MEMORY_OR_SYSTEM = frozenset({socket.EAI_MEMORY, socket.EAI_SYSTEM})
"""What the resolver says when it fails for this machine's sake."""
RESOLVER_FAILED = "this checker's resolver failed"


@dataclass(frozen=True, slots=True)
class Dialled:
    """A way to the service: an open, non-blocking socket that the caller closes, where it leads, and the name that it was found by."""

    connection: socket.socket
    address: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Resolved:
    """Where a service is: permitted addresses (at least one), the name that they belong to, and the port."""

    ways: tuple[Way, ...]
    host: str
    port: int

    @property
    def addresses(self) -> tuple[str, ...]:
        """The addresses, to be given to a library in place of the name, in the order in which they should be tried."""
        return tuple(str(address[0]) for _family, address in self.ways)


async def dial(talk: Talk, tools: Tools, *, default_port: int | None = None) -> Dialled:
    """Connect to the target's host by the talk's deadline: its addresses in turn. Raises `Ended`."""
    found = await resolve(talk, tools, default_port=default_port)
    async with talk.phase("connecting", "connect_ms"):
        connection, address = await connect_any(found.ways, talk.deadline)
    return Dialled(connection, address, found.host, found.port)


async def resolve(talk: Talk, tools: Tools, *, default_port: int | None = None) -> Resolved:
    """Return the permitted addresses of the target's host, for libraries that dial themselves. Raises `Ended`."""
    parts = urlsplit(talk.target.endpoint_url)
    host, port = parts.hostname or "", parts.port or default_port or 0
    return await locate(talk, tools, host, port)


async def locate(talk: Talk, tools: Tools, host: str, port: int) -> Resolved:
    """Return the permitted addresses of any host. Raises `Ended`, with `not_looked` if none is permitted."""
    began = perf_counter()
    talk.doing = "looking up the name"
    ways = await _look_up(talk, tools, host, port)
    talk.took("name_lookup_ms", perf_counter() - began)
    permitted = tuple(way for way in ways if tools.rules.refusal(str(way[1][0])) is None)
    if not permitted:
        raise Ended(not_looked(tools.rules.refusal(str(ways[0][1][0])) or "no address"))
    return Resolved(permitted, host, port)


async def connect_any(ways: tuple[Way, ...], deadline: float) -> tuple[socket.socket, str]:
    """Try the addresses in turn, each with its share of the time left; return socket and address, or raise the `OSError` that says most.

    What an address answered says more than what this machine could not do for another, such as IPv6 where it has none.
    """
    loop = asyncio.get_running_loop()
    error = OSError("no address")
    for place, (family, address) in enumerate(ways):
        share = (deadline - loop.time()) / (len(ways) - place)
        try:
            return await _connect(family, address, max(0.0, share)), str(address[0])
        except OSError as raised:
            if error.errno is None or error.errno in OWN_TROUBLE or raised.errno not in OWN_TROUBLE:
                error = raised
    raise error


async def _connect(family: int, address: tuple[object, ...], timeout_s: float) -> socket.socket:
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        async with asyncio.timeout(timeout_s):
            await asyncio.get_running_loop().sock_connect(connection, address)
    except BaseException:
        connection.close()
        raise
    return connection


async def _look_up(talk: Talk, tools: Tools, host: str, port: int) -> list[Way]:
    address = literal(host)
    if address is not None:
        family = socket.AF_INET if address.version == 4 else socket.AF_INET6  # noqa: PLR2004  # IP version
        return [(family, (str(address), port))]
    try:
        return await tools.names.look_up(host, port, talk.deadline)
    except NeverBegun:
        raise Ended(not_looked("this checker's look-ups of other names took all the time")) from None
    except ResolverAway:
        raise Ended(not_looked(RESOLVER_FAILED)) from None
    except TimeoutError as error:
        raise talk.failure_of(error) from None
    except (OSError, UnicodeError) as error:
        raise _unresolved(error) from None


def _unresolved(error: OSError | UnicodeError) -> Ended:
    if isinstance(error, OSError):
        by_name = isinstance(error, socket.gaierror)
        number = shortage() if by_name else error.errno or 0
        if number in OWN_TROUBLE:
            return Ended(not_looked(OWN_TROUBLE[number]))
        if not by_name or error.errno in MEMORY_OR_SYSTEM:
            return Ended(not_looked(RESOLVER_FAILED))
        if error.errno in WITHOUT_AN_ANSWER:
            return Ended(failed(ErrorType.DNS_ERROR, "the look-up failed"))
    return Ended(failed(ErrorType.DNS_ERROR, "name not found"))
