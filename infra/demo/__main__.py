"""Runs the demo's services and their switchboard: `python -m infra.demo`, or `sla-monitor demo-target`.

`GET /control` shows every target, `POST /control/<id>?mode=ok|fail|slow|hang|refuse` switches one, `GET /health/live` says that it runs.
"""

import asyncio
import signal
from urllib.parse import parse_qs, urlsplit

from infra.demo.targets import IDS, BadRequest, Mode, Request, Target, port_of, read_request, response
from infra.ops.settings import DemoSettings
from shared.settings import load


class Switchboard:
    """Shows and switches the targets over HTTP."""

    def __init__(self, settings: DemoSettings) -> None:
        """Make the targets; none listens yet."""
        self._settings = settings
        host, port = settings.demo_host, settings.demo_port
        self._targets = {target: Target(target, host, port_of(target, port)) for target in IDS}

    async def serve(self, stop: asyncio.Event) -> None:
        """Listen until told to stop."""
        for target in self._targets.values():
            await target.switch(Mode.OK)
        server = await asyncio.start_server(self._answer, self._settings.demo_host, self._settings.demo_port)
        await stop.wait()
        server.close()
        for target in self._targets.values():
            await target.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(await self._reply(await read_request(reader)))
            await writer.drain()
        except (BadRequest, ConnectionError):
            pass  # the visitor's affair: there is nobody left to tell
        finally:
            writer.close()

    async def _reply(self, request: Request) -> bytes:
        url = urlsplit(request.path)
        match [part for part in url.path.split("/") if part]:
            case ["health", _]:
                return response(200, {"status": "ok"})
            case ["control"]:
                return response(200, self._shown())
            case ["control", target] if target not in self._targets:
                return response(404, {"detail": f"no target {target!r}; there are {', '.join(IDS)}"})
            case ["control", _] if request.method != "POST":
                return response(405, {"detail": "a target is switched with POST"})
            case ["control", target]:
                return await self._switch(target, parse_qs(url.query).get("mode", [""])[0])
        return response(404, {"detail": "there are /control and /control/<id>?mode=<mode>"})

    async def _switch(self, target: str, mode: str) -> bytes:
        if mode not in set(Mode):
            return response(422, {"detail": f"mode is one of {', '.join(Mode)}"})
        await self._targets[target].switch(Mode(mode))
        return response(200, self._shown()[target])

    def _shown(self) -> dict[str, dict[str, object]]:
        port = self._settings.demo_port
        return {one.id: {"mode": one.mode, "port": port_of(one.id, port), "answered": one.answered} for one in self._targets.values()}


async def _run(settings: DemoSettings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    await Switchboard(settings).serve(stop)


def main() -> None:
    """Run until SIGTERM."""
    asyncio.run(_run(load(DemoSettings)))


if __name__ == "__main__":
    main()
