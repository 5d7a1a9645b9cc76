"""`sla-monitor db …`, `user …` and `dead …`: the data and who may see them."""

import asyncio
from typing import Annotated

import typer

from infra.ops import database as product_database
from infra.ops import dead
from infra.ops import scale as history
from infra.ops import seed as first_content
from infra.ops.commands_stack import show_sign_in
from infra.ops.errors import OpsError
from infra.ops.settings import AdminSettings, DatabaseOpsSettings, DeadLetterSettings, DemoSettings
from shared.settings import load

database = typer.Typer(help="Database, roles, tables, first content.", no_args_is_help=True)
users = typer.Typer(help="People who may sign in.", no_args_is_help=True)
dead_letters = typer.Typer(help="Messages that no service could handle.", no_args_is_help=True)

Queue = Annotated[str, typer.Argument(help="The work queue, such as aggregator.checks")]
MessageId = Annotated[str | None, typer.Option(help="Only the letter with this message id")]
All = Annotated[bool, typer.Option("--all", help="Every letter that lies there")]


@database.command()
def migrate() -> None:
    """Make database, roles, rights and tables what this version needs."""
    settings = load(DatabaseOpsSettings)
    applied = asyncio.run(product_database.migrate(settings.admin_database_url.get_secret_value(), settings.passwords()))
    for service, names in applied.items():
        typer.echo(f"{service}: {', '.join(names) if names else 'up to date'}")


@database.command("status")
def show_status() -> None:
    """Say how far each service's tables are; exit code 1 if any is behind."""
    found = asyncio.run(product_database.status(load(AdminSettings).admin_database_url.get_secret_value()))
    for one in found:
        typer.echo(f"{one.service}: {one.applied} applied, " + (f"missing {', '.join(one.missing)}" if one.missing else "up to date"))
    if any(one.missing for one in found):
        raise typer.Exit(1)


@database.command()
def seed(
    *,
    scale: Annotated[bool, typer.Option("--scale", help="Instead: the history of very many services, to see how reads behave")] = False,
    services: Annotated[int, typer.Option(min=1, help="With --scale: how many services")] = 10_000,
    days: Annotated[int, typer.Option(min=10, help="With --scale: how many days of daily records")] = 90,
    hour_days: Annotated[int, typer.Option(min=1, help="With --scale: how many days of hours")] = 30,
) -> None:
    """Make the five demo services and a user per role, where they are missing; prints new passwords this once."""
    settings = load(DatabaseOpsSettings)
    if scale:
        size = history.Scale(services, days, hour_days)
        number = asyncio.run(history.seed(settings.admin_database_url.get_secret_value(), settings.passwords(), size))
        typer.echo(f"History of {number} services made: {days} days, {hour_days} of them by the hour")
        return
    made = asyncio.run(
        first_content.seed(settings.admin_database_url.get_secret_value(), settings.passwords(), load(DemoSettings).target_urls())
    )
    typer.echo(f"Services made: {', '.join(made.services) or 'none, all were there'}")
    show_sign_in(made)


@users.command("reset-password")
def reset_password(name: Annotated[str, typer.Argument(help="The user's name")]) -> None:
    """Give a user a new password, print it this once, and end their sessions."""
    settings = load(DatabaseOpsSettings)
    password = asyncio.run(first_content.reset_password(settings.admin_database_url.get_secret_value(), settings.passwords(), name))
    typer.echo(f"{name}  {password}")


@dead_letters.command("list")
def list_dead() -> None:
    """Say how many dead letters each queue has; exit code 1 if there are any."""
    counts = asyncio.run(dead.counts(_broker_url()))
    for count in counts:
        typer.echo(f"{count.queue.name:<22} {'not declared yet' if count.letters is None else count.letters}")
    if any(count.letters for count in counts):
        raise typer.Exit(1)


@dead_letters.command()
def show(queue: Queue, limit: Annotated[int, typer.Option(min=1, max=1000, help="How many, oldest first")] = 10) -> None:
    """Print dead letters; they stay where they are."""
    for letter in asyncio.run(dead.show(_broker_url(), dead.work_queue(queue), limit)):
        typer.echo(
            f"message-id {letter.message_id}\n  type {letter.type}\n  correlation-id {letter.correlation_id}\n  reason {letter.reason}"
        )
        typer.echo(f"  body {letter.body}")


@dead_letters.command()
def replay(queue: Queue, message_id: MessageId = None, *, everything: All = False) -> None:
    """Send dead letters back to their work queue, confirmed, under their own message ids."""
    done = asyncio.run(dead.replay(_broker_url(), dead.work_queue(queue), _wanted(message_id, everything=everything)))
    typer.echo(f"{len(done)} sent back to {dead.work_queue(queue).name}")


@dead_letters.command()
def drop(queue: Queue, message_id: MessageId = None, *, everything: All = False) -> None:
    """Remove dead letters for good; prints their ids."""
    for letter in asyncio.run(dead.drop(_broker_url(), dead.work_queue(queue), _wanted(message_id, everything=everything))):
        typer.echo(f"dropped {letter.message_id} {letter.type}")


def _wanted(message_id: str | None, *, everything: bool) -> dead.Wanted:
    if (message_id is None) != everything:
        message = "say which: --message-id ID, or --all"
        raise OpsError(message)
    return lambda letter: everything or letter.message_id == message_id


def _broker_url() -> str:
    return load(DeadLetterSettings).broker_url.get_secret_value()
