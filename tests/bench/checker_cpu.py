"""CPU time of one HTTP check: the checker's whole path beside a bare httpx loop, on the same target in the same run.

`python -m tests.bench.checker_cpu` prints CPU-ms per check of both and their ratio, each a median over some rounds. The checker is the
real one: scheduler, engine, batches, spool and confirmed publishing to a real RabbitMQ (into the queues that the services would read), in a
process of its own; only checks whose results the broker confirmed are counted. httpx: one client, a new connection for each request.
"""

# a bench speaks on standard output

import argparse
import asyncio
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import httpx
import uvloop

from services.checker.__main__ import allow_many_files, checking
from services.checker.domain.target import Target
from services.checker.probes.http import HttpOptions
from services.checker.settings import CheckerSettings
from services.checker.shipper import COLLECTED, SHIPPED, shipping
from services.checker.spool import Spool
from shared.clock import utc_now
from shared.health import Health
from shared.messaging import open_publisher
from tests import servers
from tests.waiting import until

SERVICES = 1000
"""Each checked once a second: 1,000 checks a second."""
WARM_UP_CHECKS = 2 * SERVICES
HTTPX_REQUESTS = 2000
HTTPX_AT_ONCE = 20
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\nok\n"

GOAL_MS = 0.35
GOAL_RATIO = 5.0


class Answering(asyncio.Protocol):
    """The target: answers every request at once and leaves closing to the client."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        self.transport = cast("asyncio.WriteTransport", transport)  # uvloop's do not inherit from it

    def data_received(self, data: bytes) -> None:
        """Answer when the head is complete; requests of this bench come in one piece."""
        if data.endswith(b"\r\n\r\n"):
            self.transport.write(ANSWER)


async def be_target() -> None:
    """Serve until killed; the port is the first line of output."""
    server = await asyncio.get_running_loop().create_server(Answering, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def be_checker(url: str, broker_url: str, seconds: float) -> dict[str, float]:
    """Check for a while and return CPU-ms per confirmed check, and how many there were."""
    allow_many_files()
    health = Health("bench")
    settings = CheckerSettings.model_validate({"database_url": "postgresql://unused", "broker_url": broker_url})
    created = int(time.time() * 1000) - 3_600_000
    targets = [Target(f"bench-{n}", "http", url, 1000, 900, HttpOptions(), created, n) for n in range(SERVICES)]
    with tempfile.TemporaryDirectory() as folder, Spool(Path(folder) / "spool.sqlite3", max_bytes=1 << 30) as spool:
        async with (
            open_publisher(broker_url, name="bench", health=health) as publisher,
            shipping(spool, publisher, region="bench", checker="bench", clock=utc_now, health=health) as shipper,
            checking(settings, shipper, health) as scheduler,
        ):
            await publisher.connected.wait()
            scheduler.apply(targets, ())
            await until(_shipped_more_than(WARM_UP_CHECKS), within_s=30, what="the warm-up")
            before, cpu = SHIPPED._value.get(), time.process_time()  # noqa: SLF001  # a counter has no public reading
            await asyncio.sleep(seconds)  # what is measured
            spent, done = time.process_time() - cpu, SHIPPED._value.get() - before  # noqa: SLF001  # as above
    unhealthy = COLLECTED.labels("failed")._value.get() + COLLECTED.labels("unknown")._value.get()  # noqa: SLF001  # as above
    if unhealthy:
        msg = f"{unhealthy:.0f} checks did not find the target healthy: nothing was measured"
        raise RuntimeError(msg)
    return {"ms": spent / done * 1000, "checks": done}


def _shipped_more_than(number: float) -> Callable[[], Awaitable[bool]]:
    async def enough() -> bool:
        return bool(SHIPPED._value.get() > number)  # noqa: SLF001  # as above

    return enough


async def be_httpx(url: str, requests: int) -> dict[str, float]:
    """Ask with httpx and return CPU-ms per request."""
    left = iter(range(requests + HTTPX_AT_ONCE))

    async def ask(client: httpx.AsyncClient) -> None:
        for _ in left:
            answer = await client.get(url, headers={"connection": "close"})
            answer.raise_for_status()

    async with httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0), trust_env=False) as client:
        await client.get(url, headers={"connection": "close"})
        cpu = time.process_time()
        await asyncio.gather(*(ask(client) for _ in range(HTTPX_AT_ONCE)))
        return {"ms": (time.process_time() - cpu) / (requests + HTTPX_AT_ONCE) * 1000, "checks": requests + HTTPX_AT_ONCE}


@contextmanager
def running_target() -> Iterator[str]:
    """Give the URL of a target in a process of its own."""
    process = subprocess.Popen([sys.executable, "-m", "tests.bench.checker_cpu", "target"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/"
    finally:
        process.kill()
        process.wait()


def child(*arguments: str) -> dict[str, float]:
    """Run one side in a process of its own and return what it measured."""
    command = [sys.executable, "-m", "tests.bench.checker_cpu", *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=180)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(rounds: int, seconds: float) -> bool:
    """Measure both in turn, print, and say whether the goal was met."""
    run = servers.Run(servers.run_folder(f"bench-{secrets.token_hex(4)}"))
    ours, theirs = [], []
    try:
        with running_target() as url, servers.fresh_vhost(run.server("rabbitmq")) as vhost:
            for number in range(1, rounds + 1):
                checker = child("checker", url, vhost.amqp_url, str(seconds))
                plain = child("httpx", url, str(HTTPX_REQUESTS))
                ours.append(checker["ms"])
                theirs.append(plain["ms"])
                confirmed = f"{checker['checks']:.0f} checks confirmed"
                print(f"  round {number}: checker {checker['ms']:.3f} CPU-ms ({confirmed}), httpx {plain['ms']:.3f} CPU-ms", flush=True)
    finally:
        run.leave()
    mine, other = statistics.median(ours), statistics.median(theirs)
    met = mine <= GOAL_MS and other / mine >= GOAL_RATIO
    print(f"CPU per HTTP check at {SERVICES} checks/s, median of {rounds}:")
    print(f"checker {mine:.3f} ms, httpx {other:.3f} ms, ratio {other / mine:.1f}")
    print(f"goal: at most {GOAL_MS} ms, ratio at least {GOAL_RATIO:g}: {'met' if met else 'MISSED'}")
    return met


def main() -> int:
    """Compare, or be one of the processes that are compared."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", default="compare", choices=("compare", "target", "checker", "httpx"))
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    chosen = parser.parse_args()
    match chosen.part:
        case "target":
            uvloop.run(be_target())
        case "checker":
            url, broker, seconds = chosen.arguments
            print(json.dumps(uvloop.run(be_checker(url, broker, float(seconds)))))
        case "httpx":
            url, requests = chosen.arguments
            print(json.dumps(uvloop.run(be_httpx(url, int(requests)))))
        case _:
            return 0 if compare(chosen.rounds, chosen.seconds) else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
