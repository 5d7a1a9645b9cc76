"""What a process says about itself: live (not stuck beyond help), ready (can do its work, or why not), and its metrics."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

Check = Callable[[], Awaitable[str | None]]
"""Asks a dependency for real; returns why it cannot be used, or None."""

CHECK_TIMEOUT_S = 2.0


class Health:
    """The parts of one process and how each is doing. Parts that can be asked are asked at every question."""

    def __init__(self, service: str) -> None:
        """Begin as not ready: `starting` is removed by `started()`."""
        self.service = service
        self.failed = asyncio.Event()
        self.failure = ""
        self._reasons: dict[str, str] = {"process": "starting"}
        self._checks: dict[str, Check] = {}

    def set(self, part: str, *, ok: bool, reason: str = "") -> None:
        """Note how a part is doing; `reason` says what is wrong with it."""
        if ok:
            self._reasons.pop(part, None)
        else:
            self._reasons[part] = reason or "not ready"

    def check(self, part: str, ask: Check) -> None:
        """Ask `ask` whenever readiness is asked for; two seconds at most."""
        self._checks[part] = ask

    def started(self) -> None:
        """Note that everything was started."""
        self.set("process", ok=True)

    def stopping(self) -> None:
        """Note that the process is about to end, so that nobody sends it more work."""
        self.set("process", ok=False, reason="stopping")

    def fail(self, reason: str) -> None:
        """Note that the process cannot go on: it is no longer live, and the runtime ends it."""
        self.failure = reason
        self.failed.set()

    async def reasons(self) -> dict[str, str]:
        """Return why the process is not ready, by part; empty when it is."""
        found = dict(self._reasons)
        checks = dict(self._checks)  # one may be added while the others are asked
        answers = await asyncio.gather(*(_ask(check) for check in checks.values()))
        found.update({part: answer for part, answer in zip(checks, answers, strict=True) if answer})
        return found


async def _ask(check: Check) -> str | None:
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            return await check()
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_S:g} s"
    except Exception as error:  # noqa: BLE001  # whatever goes wrong is the answer to the question
        return f"{type(error).__name__}: {error}"[:200]


def health_app(health: Health) -> Callable[[Any, Any, Any], Awaitable[None]]:
    """Return the ASGI application that answers /health/live, /health/ready and /metrics."""

    async def app(scope: Any, _receive: Any, send: Any) -> None:  # noqa: ANN401  # ASGI's own types are open
        status, content_type, body = await _answer(health, scope["path"])
        headers = [(b"content-type", content_type.encode()), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})

    return app


async def _answer(health: Health, path: str) -> tuple[int, str, bytes]:
    match path:
        case "/health/live":
            return _json(
                503 if health.failed.is_set() else 200,
                {"service": health.service, "live": not health.failed.is_set(), "reason": health.failure},
            )
        case "/health/ready":
            reasons = await health.reasons()
            return _json(503 if reasons else 200, {"service": health.service, "ready": not reasons, "reasons": reasons})
        case "/metrics":
            return 200, CONTENT_TYPE_LATEST, generate_latest()
    return _json(404, {"title": "Not found", "status": 404, "detail": "Try /health/live, /health/ready or /metrics."})


def _json(status: int, content: dict[str, Any]) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(content).encode()


class QuietServer(uvicorn.Server):
    """Uvicorn without signal handlers of its own: the runtime alone decides when a process ends."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave SIGTERM and SIGINT to the runtime."""
        yield

    def stop(self) -> None:
        """End `serve()` soon: as uvicorn does on its first signal."""
        self.handle_exit(signal.SIGTERM, None)


@asynccontextmanager
async def serving(config: uvicorn.Config, *, grace_s: float = 2.0) -> AsyncIterator[int]:
    """Serve an ASGI application inside this process and give its port. Raises `OSError` where the port is taken."""
    server = QuietServer(config)
    listener = config.bind_socket()
    task = asyncio.create_task(server.serve(sockets=[listener]), name=f"http:{config.port}")
    try:
        yield listener.getsockname()[1]
    finally:
        server.stop()
        _done, late = await asyncio.wait({task}, timeout=grace_s)
        for one in late:
            one.cancel()
        await asyncio.gather(task, return_exceptions=True)
        listener.close()


@asynccontextmanager
async def serve_health(health: Health, *, host: str, port: int) -> AsyncIterator[int]:
    """Answer health questions and metrics on a port of its own; gives the port."""
    config = uvicorn.Config(
        health_app(health), host=host, port=port, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1
    )
    async with serving(config) as bound:
        yield bound
