"""`sla-monitor check`: a check that is run once, without any server of the product, against a real one of its protocol."""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


class Orders(http.server.BaseHTTPRequestHandler):
    """Answers every GET with a little JSON."""

    def do_GET(self) -> None:
        body = b'{"status": "ok", "queue": 3}'
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base class's name
        """Say nothing."""


@pytest.fixture
def orders() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Orders) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()
        thread.join()


def check(tmp_path: Path, *arguments: str) -> tuple[int, list[str], str]:
    """Run the command; return exit code, lines and what it complains about."""
    env = {**os.environ, "SLA_LOCAL_FOLDER": str(tmp_path / "no-stack"), "TARGET": ""}
    command = [sys.executable, "-m", "infra.ops.cli", "check", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout.splitlines(), done.stderr


def test_a_healthy_answer_with_its_phases_and_verdicts(orders: str, tmp_path: Path) -> None:
    code, lines, complaint = check(tmp_path, orders, "--assert", "json $.status equals ok", "--assert", "json $.queue less_than 10")
    assert (code, lines[0], lines[-1]) == (0, f"http {orders}", "  healthy (code 200)"), (lines, complaint)
    assert "  ✓ json $.status equals ok: found ok" in lines
    assert [line.split("  ")[1] for line in lines[1:4]] == ["looking up the name", "connecting", "waiting for the answer"]


def test_what_does_not_hold_is_degraded_or_failed_and_ends_with_1(orders: str, tmp_path: Path) -> None:
    degraded = check(tmp_path, orders, "--assert-degraded", "json $.queue less_than 3")
    assert (degraded[0], any(line.startswith("  degraded (code 200)") for line in degraded[1])) == (1, True), degraded
    failed = check(tmp_path, orders, "--assert", "code equals 404", "--option", "method=GET")
    assert (failed[0], "  ✗ code equals 404: found 200" in failed[1]) == (1, True), failed
    refused = check(tmp_path, "tcp://127.0.0.1:1")
    assert (refused[0], refused[1][-1]) == (1, "  failed: connection refused, while connecting"), refused


def test_a_file_is_checked_and_its_mistakes_end_with_2(orders: str, tmp_path: Path) -> None:
    file = tmp_path / "monitors.yaml"
    one = f"services:\n- id: orders\n  kind: http\n  endpoint_url: ${{TARGET:-{orders}}}\n- id: other\n  kind: tcp\n  endpoint_url: tcp://127.0.0.1:1\n"
    file.write_text(one, encoding="utf-8")
    assert check(tmp_path, str(file), "--id", "orders")[0] == 0
    assert check(tmp_path, str(file))[0] == 1, "the other one is down"
    for arguments in ([str(file), "--id", "nobody"], [str(tmp_path / "nowhere.yaml")], ["gopher://x"], [orders, "--option", "methd=GET"]):
        code, lines, complaint = check(tmp_path, *arguments)
        assert (code, lines) == (2, []), complaint
        assert complaint.startswith("sla-monitor: "), complaint
