"""The probes: one function for each kind of check. They ask and report; schedule, status and storage are not their business.

A probe raises nothing that has to do with the service: whatever goes wrong there is its measurement.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from services.checker.domain.hosts import HostRules
from services.checker.domain.target import Measurement, Target
from services.checker.probes import http, tcp
from services.checker.probes.engine import Engine
from services.checker.probes.names import Names


@dataclass(frozen=True, slots=True)
class Tools:
    """What probes work with."""

    engine: Engine
    rules: HostRules
    names: Names = field(default_factory=Names)


Probe = Callable[[Target, Tools], Awaitable[Measurement]]

PROBES: dict[str, Probe] = {
    "http": lambda target, tools: http.probe(target, tools.engine),
    "tcp": lambda target, tools: tcp.probe(target, tools.rules, tools.names),
}
