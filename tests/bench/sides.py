"""The sides that are compared, each a process of its own: this checker, blackbox_exporter, and a bare httpx loop.

Each function checks the given address for a while and returns the CPU that one check took.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx

from infra.ops import programs
from infra.ops.ports import free_port
from infra.ops.processes import spawn, stop, stopped_on_error, wait_until
from services.checker.__main__ import allow_many_files, checking, equipped
from services.checker.assertions import read_assertions
from services.checker.domain.known import Known
from services.checker.domain.target import Target
from services.checker.probes.http import KIND
from services.checker.scheduler import LATENESS
from services.checker.settings import CheckerSettings
from services.checker.shipper import COLLECTED, SHIPPED, shipping
from services.checker.spool import Spool
from shared.clock import utc_now
from shared.health import Health
from shared.messaging import open_publisher
from shared.runtime import collect_rarely
from tests.waiting import until

HTTPX_AT_ONCE = 20
BLACKBOX_AT_ONCE = 16
TIMEOUT_MS = 900
UNWELL_SHARE = 0.02
"""A loaded machine may let a few checks be slow."""
ASSERTIONS = [
    {"source": "code", "comparison": "equals", "target": 200},
    {"source": "response_time", "comparison": "less_than", "target": 800, "severity": "degraded"},
]
"""What a careful definition would say; blackbox_exporter looks at the code, too."""

_CONFIG = """
modules:
  look:
    prober: http
    timeout: 900ms
    http:
      preferred_ip_protocol: ip4
      valid_status_codes: [200]
      tls_config: {{ca_file: {ca_file}}}
"""


async def checker(url: str, ca_file: str, broker_url: str, rate: int, seconds: float) -> dict[str, float]:
    """Run the whole checker: `rate` services, each checked once a second; only checks that the broker confirmed are counted."""
    allow_many_files()
    collect_rarely()  # as every service does
    health = Health("bench")
    values = {"database_url": "postgresql://unused", "broker_url": broker_url, "ca_file": ca_file}
    # All services are on one host here, which is to be no measure of how many a host may have to bear.
    settings = CheckerSettings.model_validate({**values, "per_host_concurrency": 1000})
    created = int(time.time() * 1000) - 3_600_000
    options, assertions = KIND.read({})[0], read_assertions(ASSERTIONS, KIND)[0]
    targets = [Target(f"bench-{n}", "http", url, 1000, TIMEOUT_MS, options, created, n, assertions=assertions) for n in range(rate)]
    with tempfile.TemporaryDirectory() as folder, Spool(Path(folder) / "spool.sqlite3", max_bytes=1 << 30) as spool:
        async with (
            open_publisher(broker_url, name="bench", health=health) as publisher,
            shipping(spool, publisher, region="bench", checker="bench", clock=utc_now, health=health) as shipper,
            equipped(settings, health, Known()) as tools,
            checking(settings, shipper, health, tools) as scheduler,
        ):
            await publisher.connected.wait()
            scheduler.apply(targets, ())
            await until(_shipped_more_than(8 * rate), within_s=60, what="the warm-up")
            before, unwell, late, cpu = _shipped(), _unwell(), _lateness(), time.process_time()
            await asyncio.sleep(seconds)  # what is measured
            spent, done = time.process_time() - cpu, _shipped() - before
            p99, unwell = _quantile(late, _lateness(), 0.99), _unwell() - unwell
    if unwell > done * UNWELL_SHARE:
        msg = f"{unwell:.0f} of {done:.0f} checks did not find the target well: nothing was measured"
        raise RuntimeError(msg)
    return {"ms": spent / done * 1000, "checks": done, "late_p99_ms": p99 * 1000}


def _shipped() -> float:
    return float(SHIPPED._value.get())  # noqa: SLF001  # a counter has no public reading


def _unwell() -> float:
    return float(sum(COLLECTED.labels(outcome)._value.get() for outcome in ("failed", "unknown", "degraded")))  # noqa: SLF001  # as above


def _shipped_more_than(number: float) -> Callable[[], Awaitable[bool]]:
    async def enough() -> bool:
        return _shipped() > number

    return enough


def _lateness() -> dict[float, float]:
    """Return how many checks so far began at most so many seconds late."""
    samples = next(iter(LATENESS.collect())).samples
    return {float(one.labels["le"]): one.value for one in samples if one.name.endswith("_bucket")}


def _quantile(before: dict[float, float], after: dict[float, float], share: float) -> float:
    """Return the bound of the bucket that holds the quantile: what is measured is that or less."""
    counts = {bound: after[bound] - before[bound] for bound in after}
    total = counts[float("inf")]
    return min(bound for bound, count in counts.items() if count >= share * total)


async def plain_httpx(url: str, ca_file: str, seconds: float) -> dict[str, float]:
    """Ask with one httpx client, as fast as it goes, a new connection for each request."""
    del ca_file
    done, ends = 0, time.monotonic() + seconds

    async def ask(client: httpx.AsyncClient) -> None:
        nonlocal done
        while time.monotonic() < ends:
            (await client.get(url, headers={"connection": "close"})).raise_for_status()
            done += 1

    async with httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0), trust_env=False) as client:
        await client.get(url, headers={"connection": "close"})
        cpu = time.process_time()
        await asyncio.gather(*(ask(client) for _ in range(HTTPX_AT_ONCE)))
        return {"ms": (time.process_time() - cpu) / done * 1000, "checks": done}


@contextmanager
def running_blackbox(ca_file: str) -> Iterator[tuple[int, int]]:
    """Run Debian's prometheus-blackbox-exporter; give its port and pid."""
    program = programs.find_program("prometheus-blackbox-exporter")
    if program is None:
        msg = "prometheus-blackbox-exporter is not installed: sla-monitor install blackbox"
        raise RuntimeError(msg)
    with tempfile.TemporaryDirectory() as folder:
        config, log = Path(folder) / "blackbox.yml", Path(folder) / "log"
        config.write_text(_CONFIG.format(ca_file=ca_file), encoding="utf-8")
        port = free_port()
        process = spawn([str(program), f"--config.file={config}", f"--web.listen-address=127.0.0.1:{port}", "--log.level=error"], log=log)
        with stopped_on_error(process):
            wait_until(lambda: _answers(port), timeout_s=20, what="the start of blackbox_exporter", process=process, log=log)
        try:
            yield port, process.pid
        finally:
            stop(process, timeout_s=5)


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/-/healthy", trust_env=False).is_success
    except httpx.TransportError:
        return False


async def blackbox(url: str, ca_file: str, rate: int, seconds: float) -> dict[str, float]:
    """Have blackbox_exporter probe `rate` times a second, as Prometheus would: over connections that stay. Only its own CPU counts."""
    with running_blackbox(ca_file) as (port, pid):
        await _probe(port, url, rate, 1.0)  # the warm-up
        cpu = _cpu_s(pid)
        done = await _probe(port, url, rate, seconds)
        return {"ms": (_cpu_s(pid) - cpu) / done * 1000, "checks": done}


async def _probe(port: int, url: str, rate: int, seconds: float) -> int:
    request = f"GET /probe?module=look&target={quote(url, safe='')} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    slots = iter(range(int(rate * seconds)))
    began, done = time.monotonic(), 0

    async def scrape() -> None:
        nonlocal done
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for slot in slots:
            await asyncio.sleep(max(0.0, began + slot / rate - time.monotonic()))  # the pace that is compared
            writer.write(request)
            if b"\nprobe_success 1\n" not in await _body(reader):
                msg = "blackbox_exporter did not find the target healthy: nothing was measured"
                raise RuntimeError(msg)
            done += 1
        writer.close()

    await asyncio.gather(*(scrape() for _ in range(BLACKBOX_AT_ONCE)))
    return done


async def _body(reader: asyncio.StreamReader) -> bytes:
    """Read one answer, which comes in chunks (RFC 9112, 7.1) or with its length."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if b"content-length:" in head:
        return await reader.readexactly(int(head.split(b"content-length:")[1].split(b"\r\n")[0]))
    body = b""
    while size := int(await reader.readuntil(b"\r\n"), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readexactly(2)
    return body


def _cpu_s(pid: int) -> float:
    """Return the CPU that a process has used, by user and system (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
