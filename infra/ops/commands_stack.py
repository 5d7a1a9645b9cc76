"""`sla-monitor stack …`: the local stack."""

import os
from pathlib import Path
from typing import Annotated

import typer

from infra.ops import stack
from infra.ops.seed import Seeded

DEFAULT_FOLDER = Path(os.environ.get("SLA_LOCAL_FOLDER", stack.ROOT / ".local"))
app = typer.Typer(help="PostgreSQL, RabbitMQ, Redis and the product on this machine, without containers.", no_args_is_help=True)

Folder = Annotated[Path, typer.Option(help="Where the data and logs are")]


@app.command()
def up(
    folder: Folder = DEFAULT_FOLDER,
    *,
    demo: Annotated[bool, typer.Option(help="Also start the demo's services and check them")] = True,
    port: Annotated[int | None, typer.Option(envvar="SLA_HTTP_PORT", help="Port of the page; 8080, or a free one if that is taken")] = None,
) -> None:
    """Start everything and print the address."""
    running = stack.up(folder, demo=demo, http_port=port, say=typer.echo)
    typer.echo(f"\nSLA Monitor {'already runs' if running.was_running else 'runs'} at {running.url}")
    show_sign_in(running.seeded)
    typer.echo(f"Logs: {folder / 'logs'}   Stop: make down")


@app.command()
def down(folder: Folder = DEFAULT_FOLDER) -> None:
    """Stop everything; the data stay."""
    typer.echo("Stopped" if stack.down(folder) else "Nothing was running")


@app.command()
def erase(folder: Folder = DEFAULT_FOLDER, *, yes: Annotated[bool, typer.Option("--yes", help="Do not ask")] = False) -> None:
    """Stop everything and remove all data."""
    if not yes:
        typer.confirm(f"Remove all data in {folder}?", abort=True)
    stack.erase(folder)
    typer.echo("Removed")


@app.command()
def status(folder: Folder = DEFAULT_FOLDER) -> None:
    """Say how each part is; exit code 1 if any is not ready."""
    parts = stack.status(folder)
    if not parts:
        typer.echo("The local stack does not run: sla-monitor stack up")
    for part in parts:
        said = "ready" if part.ready else f"not ready: {part.reason}"
        typer.echo(f"{part.name:<12} {part.pid or '-':>8}  restarts {part.restarts}  {said}")
    if not parts or not all(part.ready for part in parts):
        raise typer.Exit(1)


def show_sign_in(seeded: Seeded) -> None:
    """Print new passwords, this once; otherwise say what to do without them."""
    if not seeded.passwords:
        typer.echo("Sign-in: the passwords were printed at the first start; a new one: .venv/bin/sla-monitor user reset-password NAME")
        return
    typer.echo("Sign-in (printed this once, kept nowhere):")
    for name, password in sorted(seeded.passwords.items()):
        typer.echo(f"  {name:<10} {password}")
