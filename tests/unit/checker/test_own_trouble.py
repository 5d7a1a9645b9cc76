"""What the checker itself is short of is no outage of anybody: nothing was learnt, and the outcome says so."""

import asyncio
import errno
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pycurl
import pytest

from services.checker.domain.hosts import HostRules
from services.checker.domain.target import Target
from services.checker.probes import dial, tcp
from services.checker.probes.exchange import Exchange, Handle, Request, Shape, Shelf
from services.checker.probes.http import HttpOptions, judge
from services.checker.probes.journey import Journey
from services.checker.probes.names import Names
from services.checker.probes.options import NoOptions
from shared.contracts.codes import ErrorType, Outcome

if TYPE_CHECKING:
    from services.checker.probes.tools import Tools

FAILED = Exchange(pycurl.E_COULDNT_CONNECT, "", 0, 0, False, None, 0.001, 0.0, 0.0, 0.0, 0.0)
OWN = [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL]
OF_CURL = [
    pycurl.E_OUT_OF_MEMORY,
    pycurl.E_FAILED_INIT,
    pycurl.E_BAD_FUNCTION_ARGUMENT,
    pycurl.E_READ_ERROR,
    pycurl.E_SSL_CERTPROBLEM,
    pycurl.E_SSL_CACERT_BADFILE,
    99,
]
TCP = Target("s", "tcp", "tcp://127.0.0.1:9", 60_000, 1000, NoOptions(), 0, 1)

SHORT_OF_DESCRIPTORS = """
import asyncio, os, resource
from services.checker.domain.hosts import HostRules
from services.checker.probes import KINDS
from services.checker.domain.target import Target
from services.checker.probes import PROBES
from services.checker.probes.tools import Tools
from services.checker.probes.engine import open_engine

async def main():
    rules = HostRules()
    async with open_engine(rules=rules, ca_file="/none", most=10, on_failure=print) as engine:
        tools = Tools(engine, rules, "/none")
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        taken = []
        try:
            while True:
                taken.append(os.dup(0))
        except OSError:
            pass
        for _ in range({spare}):
            os.close(taken.pop())
        found = []
        for url in ("http://127.0.0.1:1/", "http://localhost:1/", "tcp://127.0.0.1:1", "tcp://some.name.invalid:1"):
            kind = url[:url.index(":")]
            target = Target("s", kind, url, 60_000, 2000, KINDS[kind].read({{}})[0], 0, 1)
            found.append((url, await PROBES[kind](target, tools)))
        for descriptor in taken:
            os.close(descriptor)
    for url, one in found:
        print(url, one.outcome.value, one.error_message, sep="|")

asyncio.run(main())
"""


@pytest.mark.parametrize("number", OWN)
def test_an_http_check_that_the_system_gave_no_means_for_is_unknown(number: int) -> None:
    """Seen red with these numbers among the words for failures."""
    found = judge(Journey(replace(FAILED, os_errno=number)), HttpOptions(), timeout_ms=900)
    assert (found.outcome, found.error_type) == (Outcome.UNKNOWN, ErrorType.UNKNOWN)
    assert (found.error_message or "").startswith("not checked: this checker")


@pytest.mark.parametrize("code", OF_CURL)
def test_a_code_of_curl_that_says_nothing_of_the_service_is_unknown(code: int) -> None:
    """Seen red with any unmapped code a failure."""
    assert judge(Journey(replace(FAILED, code=code)), HttpOptions(), timeout_ms=900).outcome is Outcome.UNKNOWN


@pytest.mark.parametrize("number", OWN)
async def test_a_tcp_check_that_the_system_gave_no_means_for_is_unknown(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red with every OSError a failure."""

    async def refuse(*_arguments: object) -> None:
        raise OSError(number, "")

    monkeypatch.setattr(dial, "connect_any", refuse)
    found = await tcp.probe(TCP, cast("Tools", SimpleNamespace(rules=HostRules(), names=Names())))
    assert found.outcome is Outcome.UNKNOWN


async def test_a_socket_that_cannot_be_opened_is_kept_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen red with the error raised into curl, which knows no exceptions."""

    def refuse(*_arguments: object) -> None:
        raise OSError(errno.EMFILE, "")

    monkeypatch.setattr("services.checker.probes.exchange.socket", SimpleNamespace(SocketType=refuse))
    request = Request("http://127.0.0.1:9/", 900, Shape("GET"), max_body_bytes=1)
    handle = Handle(request.shape, vet=lambda _address: None, ca_file="/none", shelf=Shelf())
    handle.begin(request, asyncio.get_running_loop().create_future())
    address = SimpleNamespace(family=2, socktype=1, protocol=6, addr=("127.0.0.1", 9))
    assert handle.open_socket(0, address) == pycurl.SOCKET_BAD
    assert handle.ended(pycurl.E_COULDNT_CONNECT, "").os_errno == errno.EMFILE
    handle.begin(request, asyncio.get_running_loop().create_future())
    assert handle.ended(pycurl.E_COULDNT_CONNECT, "").os_errno == 0


async def taking(pieces: int, piece: bytes, shelf: Shelf) -> tuple[Handle, int]:
    """Give a handle so many pieces of a body that is to be kept; return it and what its last word to curl was."""
    most = pieces * len(piece)
    request = Request("http://127.0.0.1:9/", 900, Shape("GET"), max_body_bytes=most, keep_bytes=most)
    handle = Handle(request.shape, vet=lambda _address: None, ca_file="/none", shelf=shelf)
    handle.begin(request, asyncio.get_running_loop().create_future())
    return handle, [handle.take(piece) for _ in range(pieces)][-1]


async def test_a_large_body_holds_up_nobody() -> None:
    """Seen red with the pieces joined anew each time: seconds instead of a few hundredths."""
    began = time.process_time()
    handle, said = await taking(10_240, b"x" * 1024, Shelf())
    assert time.process_time() - began < 0.5
    assert said == 1024
    assert len(handle.ended(0, "").body) == 10 * 1024 * 1024


async def test_bodies_that_there_is_no_room_for_are_unknown_and_room_comes_back() -> None:
    """Seen red with room that is never looked at, and with room that is not given back."""
    shelf = Shelf(3000)
    first, said = await taking(2, b"x" * 1024, shelf)
    assert said == 1024
    second, said = await taking(1, b"x" * 1024, shelf)
    assert said == 0
    found = judge(Journey(second.ended(pycurl.E_WRITE_ERROR, "")), HttpOptions(), timeout_ms=900)
    assert (found.outcome, found.error_message) == (Outcome.UNKNOWN, "not checked: this checker's HTTP client failed (curl error 27)")
    first.tidy()
    second.tidy()
    assert shelf.left == 3000


@pytest.mark.parametrize("spare", [0, 1])
def test_a_process_without_descriptors_reports_no_outage(spare: int) -> None:
    """With one to spare, Python's socket opens and curl's copy of it does not. Seen red as above."""
    script = SHORT_OF_DESCRIPTORS.format(spare=spare)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    found = dict(line.split("|", 1) for line in ended.stdout.splitlines())
    if spare:
        found = {url: words for url, words in found.items() if url.startswith("http")}  # one is all that TCP needs: truly refused
    assert {url: words.split("|")[0] for url, words in found.items()} == dict.fromkeys(found, "unknown"), ended.stdout + ended.stderr
    assert len(found) == 4 - 2 * spare
