"""Checking one service with the kinds that go by the HTTP engine."""

from dataclasses import replace
from typing import Any

import pytest

from services.checker.assertions import read_assertions
from services.checker.domain.hosts import HostRules
from services.checker.domain.target import Measurement
from services.checker.probes import KINDS, PROBES
from services.checker.probes.engine import open_engine
from services.checker.probes.names import Names
from services.checker.probes.tools import Tools
from tests import certificates
from tests.watched import ANYWHERE, target


async def ask(
    url: str,
    *,
    kind: str = "http",
    timeout_ms: int = 3000,
    rules: HostRules = ANYWHERE,
    assertions: tuple[dict[str, Any], ...] = (),
    proxies: tuple[str, ...] = (),
    names: Names | None = None,
    **options: Any,  # noqa: ANN401  # JSON
) -> Measurement:
    """Check once, with the tests' authority trusted; the answer's facts are there as the assertions want them, and none is judged."""
    compiled, flaws = read_assertions(list(assertions), KINDS[kind])
    assert not flaws
    watched = replace(target(kind, url, timeout_ms=timeout_ms, **options), assertions=compiled)
    ca_file = str(certificates.authority().file)
    async with open_engine(rules=rules, ca_file=ca_file, most=10, on_failure=pytest.fail) as engine:
        tools = Tools(engine, rules, ca_file, names=names or Names(), proxies=frozenset(proxies))
        return await PROBES[kind](watched, tools)


def looking_at(source: str, name: str = "") -> tuple[dict[str, Any], ...]:
    """Return assertions that look at one source, whatever is there."""
    return ({"source": source, "property": name, "comparison": "exists"},)
