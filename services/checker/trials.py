"""A check run once, before its definition is saved: with the real probe, judged as it would be, every assertion's verdict told."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet
from pydantic import SecretStr

from services.checker import assertions, drafts, usecases
from services.checker.domain.definition import Definition
from services.checker.domain.hosts import HostRules
from services.checker.domain.target import Measurement, Target, not_looked
from services.checker.drafts import Terms
from services.checker.probes import KINDS, PROBES
from services.checker.probes.engine import EngineStopped, open_engine
from services.checker.probes.tools import Tools, trusted_authorities
from services.checker.results import to_result
from services.checker.scheduler import GRACE_S, Check
from services.checker.secrets import NO_KEYS, CannotUnseal, Sealer, is_masked
from shared.clock import utc_now
from shared.contracts.commands import AssertionVerdict, Problem, ServiceDraft, Trial
from shared.contracts.services import Assertion
from shared.database import CONNECT_TIMEOUT_S, Pool
from shared.rpc import Refused
from shared.telemetry import logger

AT_ONCE = 10
"""Trials that run together; more are refused, so that whoever tries holds up nobody who asks for something else."""
NAMELESS = {"id": "trial", "name": "Trial"}

log = logger(__name__)


@dataclass(slots=True)
class Trials:
    """Runs trials with the tools of a running checker. The database is asked only for the secrets that masks keep."""

    tools: Tools
    terms: Terms
    region: str
    pool: Pool
    running: int = 0

    async def try_once(self, draft: ServiceDraft) -> Trial:
        """Run what was drafted. Raises `Refused`: 422 for a definition that cannot work, 429 while as many as allowed are running."""
        if self.running >= AT_ONCE:
            raise Refused(Problem(title="Too many trials", status=429, detail=f"{AT_ONCE} checks are being tried. Try again in a moment."))
        self.running += 1
        try:
            stored = await self._stored(draft.definition)
            log.info("check tried", actor=draft.actor, kind=str(draft.definition.get("kind", "http"))[:50])
            return await _run(draft.definition, stored, self.terms, self.tools, self.region)
        finally:
            self.running -= 1

    async def _stored(self, values: Mapping[str, Any]) -> Definition | None:
        service_id = values.get("id")
        if not isinstance(service_id, str) or not is_masked(values.get("options")):
            return None
        async with self.pool.acquire(timeout=CONNECT_TIMEOUT_S) as conn:
            return await usecases.present(conn, service_id)


async def check_once(
    definition: Mapping[str, Any],
    *,
    rules: HostRules,
    ca_file: Path | None = None,
    proxies: frozenset[str] = frozenset(),
    region: str = "here",
) -> Trial:
    """Run a definition once from this machine, without database, broker or checker. Raises `Refused` (422).

    `ca_file`: the authorities that TLS trusts, without it the system's. Pushes and groups are known to checkers only: here
    they are unknown.
    """
    trusted = trusted_authorities(ca_file)
    # What ends the engine ends the exchange that waits for it, which is told.
    async with open_engine(rules=rules, ca_file=trusted, most=1, on_failure=lambda _reason: None) as engine:
        tools = Tools(engine, rules, trusted, proxies=proxies)
        return await _run(definition, None, Terms(rules, NO_KEYS), tools, region)


async def _run(values: Mapping[str, Any], stored: Definition | None, terms: Terms, tools: Tools, region: str) -> Trial:
    target, written = _read(values, stored, terms)
    began = utc_now()
    found = await _measure(target, tools)
    verdicts = await assertions.elsewhere(assertions.verdicts, found, target)
    judged = await assertions.elsewhere(assertions.judge, found, target)
    told = zip(written, verdicts, strict=True)
    return Trial(
        result=to_result(Check(target, int(began.timestamp() * 1000), began, judged), region),
        assertions=tuple(AssertionVerdict(assertion=one, holds=verdict.failure is None, found=verdict.found) for one, verdict in told),
    )


def _read(values: Mapping[str, Any], stored: Definition | None, terms: Terms) -> tuple[Target, list[Assertion]]:
    """Return what is to be checked, secrets in clear, and its assertions as they are told. Raises `Refused`."""
    try:
        plain = drafts.in_clear({**NAMELESS, **values}, terms, stored)
    except CannotUnseal as error:
        raise usecases.unreadable(error) from None
    # Nothing is kept: a key for this moment shows which masks stand for nothing, and serves where the installation has none.
    momentary = Terms(terms.rules, Sealer([SecretStr(Fernet.generate_key().decode())]))
    one = usecases.accepted(drafts.accept(plain, momentary))
    kind = KINDS[one.kind]
    options, _no_flaws = kind.read(momentary.sealer.unseal(one.options))
    compiled, _no_flaws = assertions.read_assertions(one.assertions, kind)
    now_ms = int(utc_now().timestamp() * 1000)
    target = Target(
        one.id,
        one.kind,
        one.endpoint_url,
        one.check_interval,
        one.timeout,
        options,
        created_ms=now_ms,
        revision=0,
        degraded_after_ms=one.degraded_after_ms,
        assertions=compiled,
    )
    return target, [Assertion.model_validate(written) for written in one.assertions]


async def _measure(target: Target, tools: Tools) -> Measurement:
    try:
        async with asyncio.timeout(target.timeout_ms / 1000 + GRACE_S):
            return await PROBES[target.kind](target, tools)
    except TimeoutError:
        return not_looked("the probe did not end in time")
    except EngineStopped:
        raise Refused(Problem(title="Not available", status=503, detail="This checker is stopping. Try again in a moment.")) from None
    except Exception as error:
        # As in the schedule: a defect of ours says nothing about the service.
        log.exception("probe failed", kind=target.kind)
        return not_looked(f"defect of the probe ({type(error).__name__})")
