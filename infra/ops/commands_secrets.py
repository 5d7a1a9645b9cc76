"""`sla-monitor secrets …`: the keys that seal what is secret in definitions."""

import asyncio

import typer

from infra.ops.envfile import new_key
from infra.ops.errors import OpsError
from infra.ops.seed import as_service
from infra.ops.settings import DatabaseOpsSettings
from services.checker import usecases as checker
from services.checker.settings import SecretSettings
from shared.settings import load

secrets = typer.Typer(help="Keys that seal secrets in definitions.", no_args_is_help=True)


@secrets.command("new-key")
def print_new_key() -> None:
    """Print a new key: put it first in SLA_SECRET_KEYS, restart the checkers, then rotate."""
    typer.echo(new_key())


@secrets.command()
def rotate() -> None:
    """Seal every secret anew with the first of SLA_SECRET_KEYS; afterwards the other keys may go."""
    settings = load(DatabaseOpsSettings)
    keys = load(SecretSettings)
    if not keys.secret_keys:
        message = "SLA_SECRET_KEYS is not set: there is no key to seal with; `sla-monitor secrets new-key` makes one"
        raise OpsError(message)
    count = asyncio.run(reseal(settings.admin_database_url.get_secret_value(), settings.passwords(), keys.sealer))
    typer.echo(f"{count} services have secrets; all are sealed with the first key now")


async def reseal(admin_url: str, passwords: dict[str, str], sealer: checker.Sealer) -> int:
    """Seal everything anew, as the checker; return how many services have secrets. Raises OpsError."""
    async with as_service(admin_url, "checker", passwords) as conn:
        try:
            async with conn.transaction():
                return await checker.reseal(conn, sealer)
        except checker.CannotUnseal as error:
            message = f"nothing was changed; {error}"
            raise OpsError(message) from error
