"""The policy of addresses: an address that is forbidden is forbidden in every spelling, and nothing that is allowed changes that."""

import contextlib
import socket
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.checker.domain.hosts import NEVER, PRIVATE, Address, HostRules, Network, literal

EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))
FULL_WIDTH = str.maketrans("0123456789.", "０１２３４５６７８９。")  # noqa: RUF001  # meant to be


def inside(prefix: str, shift: int = 0) -> Callable[[IPv4Address], str]:
    """Return how an IPv4 address is written inside an IPv6 one: so many bits from its end."""
    return lambda ip: str(IPv6Address(int(IPv6Address(prefix)) | int(ip) << shift))


SPELLINGS: dict[str, Callable[[IPv4Address], str]] = {
    "dotted": str,
    "one number": lambda ip: str(int(ip)),
    "hexadecimal": lambda ip: hex(int(ip)),
    "octal": lambda ip: f"0{int(ip):o}",
    "two parts": lambda ip: f"{int(ip) >> 24}.{int(ip) & 0xFFFFFF}",
    "three parts": lambda ip: f"{int(ip) >> 24}.{int(ip) >> 16 & 0xFF}.{int(ip) & 0xFFFF}",
    "octal parts": lambda ip: ".".join(f"0{part:o}" for part in ip.packed),
    "hexadecimal parts": lambda ip: ".".join(hex(part) for part in ip.packed),
    "full-width": lambda ip: str(ip).translate(FULL_WIDTH),
    "mapped": lambda ip: f"::ffff:{ip}",
    "mapped, in hexadecimal": inside("::ffff:0:0"),
    "mapped, in brackets": lambda ip: f"[::ffff:{ip}]",
    "mapped, with a zone": lambda ip: f"::ffff:{ip}%eth0",
    "compatible": lambda ip: f"::{ip}",
    "NAT64": inside("64:ff9b::"),
    "NAT64 of a network's own": inside("64:ff9b:1::"),
    "SIIT": inside("::ffff:0:0:0"),  # seen red without its network
    "6to4": inside("2002::", 80),
    "Teredo": lambda ip: str(IPv6Address(int(IPv6Address("2001::")) | int(ip) ^ 0xFFFFFFFF)),
    "ISATAP": inside("2001:db8::5efe:0:0"),
    "ISATAP of a universal address": inside("2001:db8::200:5efe:0:0"),
}


def of(network: Network) -> st.SearchStrategy[Address]:
    first = int(network.network_address)
    kind = IPv4Address if network.version == 4 else IPv6Address
    return st.integers(first, first + network.num_addresses - 1).map(kind)


addresses_4 = st.integers(0, 2**32 - 1).map(IPv4Address)
addresses_6 = st.integers(0, 2**128 - 1).map(IPv6Address)
networks_4 = st.builds(lambda ip, bits: IPv4Network((ip, bits), strict=False), addresses_4, st.integers(0, 32))
networks_6 = st.builds(lambda ip, bits: IPv6Network((ip, bits), strict=False), addresses_6, st.integers(0, 128))
lists = st.lists(networks_4 | networks_6 | st.sampled_from(EVERYTHING), max_size=3).map(tuple)
rules = st.builds(HostRules, denied=lists, allowed=lists, private=st.booleans())
spellings = st.sampled_from(sorted(SPELLINGS))
NEVER_4 = [network for network, _ in NEVER if network.version == 4]
NEVER_6 = [network for network, _ in NEVER if network.version == 6]
PRIVATE_4 = [network for network in PRIVATE if network.version == 4]


def spelt(ip: Address, spelling: str) -> str:
    assert isinstance(ip, IPv4Address)
    return SPELLINGS[spelling](ip)


@given(ip=st.sampled_from(NEVER_4).flatmap(of), spelling=spellings, rules=rules)
def test_what_is_never_permitted_is_refused_in_every_spelling_whatever_is_allowed(ip: Address, spelling: str, rules: HostRules) -> None:
    """Seen red without `_meanings`, and with `allowed` asked first."""
    assert rules.refusal(spelt(ip, spelling)) is not None


@given(ip=st.sampled_from(NEVER_6).flatmap(of), zone=st.sampled_from(["", "%eth0", "%25lo"]), rules=rules)
def test_so_are_addresses_of_ipv6(ip: Address, zone: str, rules: HostRules) -> None:
    assert rules.refusal(f"{ip}{zone}") is not None
    assert rules.refusal(f"[{IPv6Address(int(ip)).exploded}{zone}]") is not None


@given(network=networks_4, data=st.data(), spelling=spellings, allowed=lists)
def test_a_denied_network_is_refused_in_every_spelling(
    network: Network, data: st.DataObject, spelling: str, allowed: tuple[Network, ...]
) -> None:
    ip = data.draw(of(network))
    assert HostRules(denied=(network,), allowed=(*allowed, network)).refusal(spelt(ip, spelling)) is not None


@given(ip=st.sampled_from(PRIVATE_4).flatmap(of), spelling=spellings, allowed=lists)
def test_private_networks_are_refused_in_every_spelling_where_they_are_not_permitted(
    ip: Address, spelling: str, allowed: tuple[Network, ...]
) -> None:
    """Seen red with `allowed` asked first."""
    assert HostRules(private=False, allowed=allowed).refusal(spelt(ip, spelling)) is not None


@given(ip=addresses_4, network=networks_4, spelling=spellings)
def test_outside_of_what_is_allowed_nothing_is(ip: IPv4Address, network: IPv4Network, spelling: str) -> None:
    refused = HostRules(allowed=(network,)).refusal(spelt(ip, spelling)) is not None
    assert refused or ip in network


@given(ip=addresses_4 | addresses_6)
def test_what_no_rule_names_is_permitted(ip: Address) -> None:
    """The policy is no reason not to look at anything else."""
    named = any(ip in network for network in (*PRIVATE, *(network for network, _ in NEVER)))
    carries = isinstance(ip, IPv6Address) and (ip.sixtofour or ip.teredo or int(ip) >> 32 & 0xFDFFFFFF == 0x5EFE)
    carries = carries or any(ip in ip_network(one) for one in ("::/96", "::ffff:0:0/96", "64:ff9b::/96"))
    if not named and not carries:
        assert HostRules(private=False).refusal(str(ip)) is None
    if isinstance(ip, IPv4Address) and not any(ip in network for network in NEVER_4):
        assert HostRules().refusal(f"::ffff:{ip}") is None


@given(text=st.text(st.sampled_from("0123456789abcdefx.:%[]１２。"), max_size=20) | st.builds(spelt, addresses_4, spellings))  # noqa: RUF001  # meant to be
def test_whatever_the_systems_resolver_takes_for_an_address_is_one_here_too(text: str) -> None:
    """Else a definition would be judged as one with a name. Seen red with `ip_address` alone."""
    with contextlib.suppress(OSError, UnicodeError):
        for _, _, _, _, found in socket.getaddrinfo(text, 1, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST):
            assert literal(text) == ip_address(str(found[0]).partition("%")[0])


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "::1",
        "10.1.2.3",
        "172.31.255.255",
        "192.168.0.1",
        "100.64.0.1",
        "fd12::1",
        "::ffff:10.0.0.1",
        "64:ff9b::10.0.0.1",
        "127.1",
    ],
)
def test_private_networks_are_permitted_by_default_and_by_a_setting_not(address: str) -> None:
    assert HostRules().refusal(address) is None
    assert "is in a private network" in (HostRules(private=False).refusal(address) or "")


@pytest.mark.parametrize("address", ["1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "192.0.1.1"])
def test_public_ones_are_permitted_in_any_case(address: str) -> None:
    assert HostRules(private=False).refusal(address) is None


def test_a_name_is_no_address() -> None:
    for name in ("localhost", "a.example", "", "1.example", "例え.テスト"):
        assert literal(name) is None
        assert HostRules().refusal(name) is not None
