"""CPU of a check beside others': this checker's whole path, prometheus-blackbox-exporter, and for http a bare httpx loop.

`python -m tests.bench.checker_cpu` prints CPU-ms per check of each, medians over some rounds, and whether the goals are met. All probe the
same local nginx in the same run, with new connections and full TLS handshakes. The checker is the real one: scheduler, engine, assertions,
batches, spool and confirmed publishing to a real RabbitMQ, in a process of its own; only checks whose results the broker confirmed count.
blackbox_exporter only probes. Its CPU is that of its process alone, so is everybody's.
"""

# a bench speaks on standard output

import argparse
import json
import secrets
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import uvloop

from tests import certificates, servers
from tests.bench import sides
from tests.nginx import running_nginx

HTTP_RATE, HTTPS_RATE = 1000, 500
"""Checks a second. TLS handshakes cost about a millisecond: 1,000 would be all that one core can do."""

GOAL_MS = 0.25
GOAL_HTTP_SHARE, GOAL_HTTPS_SHARE = 0.25, 0.9
GOAL_HTTPX_RATIO = 5.0
GOAL_LATE_MS = 250


@dataclass(frozen=True, slots=True)
class Site:
    """What is checked."""

    http: str
    https: str
    ca_file: str


@contextmanager
def running_site() -> Iterator[Site]:
    """Run nginx, which answers in clear and over TLS, and never resumes a session."""
    shown = certificates.good("127.0.0.1")
    config = f"""
    ssl_session_cache off; ssl_session_tickets off;
    server {{ listen 127.0.0.1:PORT0 backlog=4096; return 200 "ok\\n"; }}
    server {{
        listen 127.0.0.1:PORT1 ssl backlog=4096; ssl_certificate {shown.chain_file}; ssl_certificate_key {shown.key_file};
        return 200 "ok\\n";
    }}
    """
    with running_nginx(config) as nginx:
        http, https = nginx.ports
        yield Site(f"http://127.0.0.1:{http}/", f"https://127.0.0.1:{https}/", str(certificates.authority().file))


def child(side: str, *arguments: object) -> dict[str, float]:
    """Run one side in a process of its own and return what it measured."""
    command = [sys.executable, "-m", "tests.bench.checker_cpu", side, *map(str, arguments)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=180)
    return dict(json.loads(done.stdout.splitlines()[-1]))


@dataclass(slots=True)
class Medians:
    """What was measured of each side, round by round."""

    rounds: dict[str, list[dict[str, float]]]

    def add(self, name: str, measured: dict[str, float]) -> None:
        """Note and print a round."""
        self.rounds.setdefault(name, []).append(measured)
        late = f", lateness p99 at most {measured['late_p99_ms']:g} ms" if "late_p99_ms" in measured else ""
        print(f"  {name}: {measured['ms']:.3f} CPU-ms ({measured['checks']:.0f} checks{late})", flush=True)

    def of(self, name: str, what: str = "ms") -> float:
        """Return the median."""
        return statistics.median(one[what] for one in self.rounds[name])

    def line(self, name: str, words: str) -> str:
        """Return a row of the table."""
        return f"  {words:<42} {self.of(name):6.3f} CPU-ms/check {1000 / self.of(name):8,.0f} checks/s per core"


def measure(rounds: int, seconds: float) -> Medians:
    """Measure all sides in turn, round by round, so that a noisy minute is everybody's."""
    medians = Medians({})
    run = servers.Run(servers.run_folder(f"bench-{secrets.token_hex(4)}"))
    try:
        with running_site() as site, servers.fresh_vhost(run.server("rabbitmq")) as vhost:
            for number in range(1, rounds + 1):
                print(f"round {number}:", flush=True)
                for scheme, url, rate in (("http", site.http, HTTP_RATE), ("https", site.https, HTTPS_RATE)):
                    medians.add(f"{scheme} checker", child("checker", url, site.ca_file, vhost.amqp_url, rate, seconds))
                    medians.add(f"{scheme} blackbox", child("blackbox", url, site.ca_file, rate, seconds))
                medians.add("http httpx", child("httpx", site.http, site.ca_file, seconds / 2))
    finally:
        run.leave()
    return medians


def report(medians: Medians, rounds: int) -> bool:
    """Print the medians and the goals, and say whether all were met."""
    print(f"\nNew connection for each check, median of {rounds} rounds:")
    for scheme, rate in (("http", HTTP_RATE), ("https", HTTPS_RATE)):
        print(f"{scheme}, {rate:,} checks/s:")
        print(medians.line(f"{scheme} checker", "checker, everything included"))
        print(medians.line(f"{scheme} blackbox", "prometheus-blackbox-exporter, probe only"))
        if scheme == "http":
            print(medians.line("http httpx", "httpx, bare loop"))
    mine, secured = medians.of("http checker"), medians.of("https checker")
    share, secured_share = mine / medians.of("http blackbox"), secured / medians.of("https blackbox")
    ratio, late = medians.of("http httpx") / mine, medians.of("http checker", "late_p99_ms")
    return all(
        (
            _goal(f"http at most {GOAL_MS:g} CPU-ms", f"{mine:.3f}", met=mine <= GOAL_MS),
            _goal(f"http at most {GOAL_HTTP_SHARE:g} of blackbox_exporter's", f"{share:.2f}", met=share <= GOAL_HTTP_SHARE),
            _goal(f"http at most 1/{GOAL_HTTPX_RATIO:g} of httpx's", f"1/{ratio:.1f}", met=ratio >= GOAL_HTTPX_RATIO),
            _goal(
                f"https at most {GOAL_HTTPS_SHARE:g} of blackbox_exporter's", f"{secured_share:.2f}", met=secured_share <= GOAL_HTTPS_SHARE
            ),
            _goal(f"lateness p99 under {GOAL_LATE_MS} ms at {HTTP_RATE:,} checks/s", f"at most {late:g} ms", met=late < GOAL_LATE_MS),
        )
    )


def _goal(words: str, found: str, *, met: bool) -> bool:
    print(f"goal: {words}: {found}: {'met' if met else 'MISSED'}")
    return met


def main() -> int:
    """Compare, or be one of the processes that are compared."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", nargs="?", default="compare", choices=("compare", "checker", "blackbox", "httpx"))
    parser.add_argument("arguments", nargs="*")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=6.0)
    chosen = parser.parse_args()
    match chosen.part:
        case "checker":
            url, ca_file, broker, rate, seconds = chosen.arguments
            measured = uvloop.run(sides.checker(url, ca_file, broker, int(rate), float(seconds)))
        case "blackbox":
            url, ca_file, rate, seconds = chosen.arguments
            measured = uvloop.run(sides.blackbox(url, ca_file, int(rate), float(seconds)))
        case "httpx":
            url, ca_file, seconds = chosen.arguments
            measured = uvloop.run(sides.plain_httpx(url, ca_file, float(seconds)))
        case _:
            return 0 if report(measure(chosen.rounds, chosen.seconds), chosen.rounds) else 1
    print(json.dumps(measured))
    return 0


if __name__ == "__main__":
    sys.exit(main())
