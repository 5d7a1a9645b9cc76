"""The probes: a module for each kind of check, with its options and one function. A new kind is one module and one line here.

They ask and report; schedule, status and storage are not their business.
"""

from collections.abc import Mapping

from services.checker.domain.kinds import Kind
from services.checker.probes import (
    dns,
    group,
    grpc,
    http,
    icmp,
    mysql,
    postgres,
    push,
    rabbitmq,
    redis,
    smtp,
    statuspage,
    tcp,
    tls,
    websocket,
)
from services.checker.probes.tools import Probe

_MODULES = (http, tcp, tls, dns, icmp, websocket, grpc, smtp, postgres, mysql, redis, rabbitmq, push, statuspage, group)

KINDS: Mapping[str, Kind] = {module.KIND.name: module.KIND for module in _MODULES}
PROBES: Mapping[str, Probe] = {module.KIND.name: module.probe for module in _MODULES}
