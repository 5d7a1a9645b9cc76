"""Which addresses may be connected to: asked when a definition is written, and again of every address really connected to."""

import socket
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

NEVER: tuple[tuple[Network, str], ...] = tuple(
    (ip_network(network), why)
    for network, why in (
        ("169.254.0.0/16", "is link-local, where clouds keep their metadata"),
        ("fe80::/10", "is link-local"),
        ("fd00:ec2::/32", "belongs to a cloud's metadata"),
        ("fd20:ce::254/128", "belongs to a cloud's metadata"),
        ("100.100.100.200/32", "belongs to a cloud's metadata"),
        ("168.63.129.16/32", "belongs to a cloud's metadata"),
        ("192.0.0.192/32", "belongs to a cloud's metadata"),
        ("0.0.0.0/8", "is no address of a server"),
        ("::/128", "is no address of a server"),
        ("224.0.0.0/4", "is a multicast address"),
        ("ff00::/8", "is a multicast address"),
        ("255.255.255.255/32", "is a broadcast address"),
    )
)
"""Refused whatever the settings say: whoever may define a service must not thereby read the machine's cloud credentials."""

PROXY_FORM = r"^http://([a-z0-9_.-]+|\[[0-9a-f:.]+\]):[0-9]{1,5}$"
"""How a proxy is written, where one is permitted and where one is asked for: the two must be the same text."""

_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class HostRules:
    """What an installation adds: `denied` networks; and, where `allowed` is not empty, nothing outside of it."""

    denied: tuple[Network, ...] = ()
    allowed: tuple[Network, ...] = ()

    def refusal(self, address: str) -> str | None:
        """Return why `address` (a literal one, without brackets) may not be connected to, or None if it may."""
        ip = literal(address)
        if ip is None:
            return f"{address} is no address"
        for one in _meanings(ip):
            reason = self._refusal(one)
            if reason:
                return f"{address} {reason}"
        return None

    def _refusal(self, ip: Address) -> str | None:
        for network, why in NEVER:
            if ip in network:
                return why
        if any(ip in network for network in self.denied):
            return "is in a denied network"
        if self.allowed and not any(ip in network for network in self.allowed):
            return "is in none of the allowed networks"
        return None


def literal(host: str) -> Address | None:
    """Return the address that `host` spells, in any spelling that a C library accepts (`127.1`, `0x7f000001`), or None for a name."""
    plain = host.strip("[]").partition("%")[0]
    try:
        return ip_address(plain)
    except ValueError:
        pass
    # Only what begins with a digit can be an old spelling: inet_aton parses text and asks nobody.
    if plain[:1].isdigit():
        try:
            return IPv4Address(socket.inet_aton(plain))
        except OSError:
            return None
    return None


def _meanings(ip: Address) -> tuple[Address, ...]:
    """Return the address and, where it carries an IPv4 address inside, that one: the packet may end there."""
    if isinstance(ip, IPv4Address):
        return (ip,)
    inner = ip.ipv4_mapped or ip.sixtofour
    if inner is None and ip in _NAT64:
        inner = IPv4Address(int(ip) & 0xFFFFFFFF)
    if inner is None:
        return (ip,)
    # A mapped address IS the IPv4 address; the allowed networks are written for that one.
    return (inner,) if ip.ipv4_mapped else (ip, inner)
