"""`sla-monitor demo …`: make a demo service fail, and well again."""

import json
from typing import Annotated
from urllib.parse import quote

import httpx
import typer

from infra.demo.__main__ import main as run_targets
from infra.ops.errors import OpsError
from infra.ops.settings import DemoSettings
from shared.settings import load


def demo(
    target: Annotated[str | None, typer.Argument(help="A service, such as face-compare; without it all are shown")] = None,
    mode: Annotated[str, typer.Argument(help="ok, fail, slow, hang or refuse")] = "ok",
) -> None:
    """Switch how a demo service answers, or show them all."""
    settings = load(DemoSettings)
    url = f"http://{settings.demo_target_host}:{settings.demo_port}/control"
    try:
        with httpx.Client(timeout=5, trust_env=False) as client:
            answer = client.get(url) if target is None else client.post(f"{url}/{quote(target, safe='')}", params={"mode": mode})
    except httpx.TransportError as error:
        message = f"the demo's services do not answer at {url}: start them with `sla-monitor stack up` or `sla-monitor demo-target`"
        raise OpsError(message) from error
    if not answer.is_success:
        raise OpsError(answer.json()["detail"])
    typer.echo(json.dumps(answer.json(), indent=2))


def demo_target() -> None:
    """Run the demo's services in the foreground."""
    run_targets()
