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

PRIVATE: tuple[Network, ...] = tuple(
    ip_network(network)
    for network in (
        "10.0.0.0/8",  # RFC 1918, as the next two
        "172.16.0.0/12",
        "192.168.0.0/16",
        "127.0.0.0/8",  # loopback: RFC 1122
        "::1/128",
        "100.64.0.0/10",  # behind a carrier's NAT: RFC 6598
        "192.0.0.0/24",  # for protocols: RFC 6890
        "198.18.0.0/15",  # for benchmarks: RFC 2544
        "240.0.0.0/4",  # reserved, and used inside some clouds: RFC 1112
        "fc00::/7",  # unique local: RFC 4193
        "fec0::/10",  # site-local, once: RFC 3879
        "64:ff9b:1::/48",  # a network's own translation to IPv4: RFC 8215
    )
)
"""What leads to no machine of the public Internet: permitted or not as a whole, by a setting."""

_EMBEDDING = tuple(IPv6Network(network) for network in ("64:ff9b::/96", "64:ff9b:1::/48", "::ffff:0:0:0/96", "::/96"))
"""Networks whose addresses end in an IPv4 address: translated (RFC 6052, RFC 8215, RFC 2765), and "compatible" ones of old (RFC 4291)."""
_NONE_INSIDE = IPv6Network("::/127")
"""Of the last of these, the unspecified address and loopback."""
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})
"""What stands before the IPv4 address in the last half of one of RFC 5214."""


@dataclass(frozen=True, slots=True)
class HostRules:
    """What an installation adds: `denied` networks; where `allowed` is not empty, nothing outside of it; no `private` ones, if it says so.

    Each only takes away: nothing that is allowed is permitted in spite of another rule.
    """

    denied: tuple[Network, ...] = ()
    allowed: tuple[Network, ...] = ()
    private: bool = True

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
        if not self.private and any(ip in network for network in PRIVATE):
            return "is in a private network"
        if self.allowed and not any(ip in network for network in self.allowed):
            return "is in none of the allowed networks"
        return None


def literal(host: str) -> Address | None:
    """Return the address that `host` spells, or None for a name.

    In any spelling that a C library accepts (`127.1`, `0x7f000001`), also with digits and dots of other scripts, which become plain ones
    on the way to the resolver (IDNA). The zone of an IPv6 address is left away.
    """
    plain = host.strip("[]").partition("%")[0]
    if not plain.isascii():
        try:
            plain = plain.encode("idna").decode("ascii")
        except UnicodeError:
            return None
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
    if ip.ipv4_mapped:
        # It IS the IPv4 address; the allowed networks are written for that one.
        return (ip.ipv4_mapped,)
    inner = ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
    ends_in_ipv4 = any(ip in network for network in _EMBEDDING) and ip not in _NONE_INSIDE
    if inner is None and (ends_in_ipv4 or int(ip) >> 32 & 0xFFFFFFFF in _ISATAP):
        inner = IPv4Address(int(ip) & 0xFFFFFFFF)
    return (ip,) if inner is None else (ip, inner)
