"""What probes work with, and what they give back."""

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import certifi

from services.checker.domain.hosts import HostRules
from services.checker.domain.known import Known
from services.checker.domain.target import Measurement, Target
from services.checker.probes.engine import Engine
from services.checker.probes.names import Names
from shared.clock import Clock, utc_now


@dataclass(frozen=True, slots=True)
class Tools:
    """What probes work with: the HTTP engine, the policy of addresses, name look-ups, trusted authorities, and what is known already.

    `proxies` are those that HTTP checks may go through, as "http://host:port".
    """

    engine: Engine
    rules: HostRules
    ca_file: str
    names: Names = field(default_factory=Names)
    known: Known = field(default_factory=Known)
    clock: Clock = utc_now
    proxies: frozenset[str] = frozenset()


def trusted_authorities(chosen: Path | None = None) -> str:
    """Return the file of certificate authorities to trust: the chosen one, the system's, or the one that came along."""
    return str(chosen or ssl.get_default_verify_paths().cafile or certifi.where())


Probe = Callable[[Target, Tools], Awaitable[Measurement]]
"""Checks a target once. Raises nothing that has to do with the service: whatever goes wrong there is its measurement."""
