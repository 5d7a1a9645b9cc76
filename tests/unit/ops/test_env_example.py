"""`.env.example` and `docker-compose.yml` know every setting, and no setting that does not exist.

Seen red on: a line removed from .env.example, a made-up variable added to it, a key removed from a service in docker-compose.yml,
and a default changed in a settings class.
"""

import re
from pathlib import Path

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from infra.ops.envfile import filled, make
from infra.ops.settings import DatabaseOpsSettings, DeadLetterSettings, DemoSettings, RestSettings
from services.aggregator.settings import AggregatorSettings
from services.checker.secrets import Sealer
from services.checker.settings import CheckerSettings
from services.gateway.settings import GatewaySettings
from services.incidents.settings import IncidentsSettings

ROOT = Path(__file__).parents[3]
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
LINES = dict(re.findall(r"^(?:# )?(SLA_\w+)=(.*)$", EXAMPLE, re.MULTILINE))
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")

SERVICES: dict[str, type[BaseSettings]] = {
    "checker": CheckerSettings,
    "aggregator": AggregatorSettings,
    "incidents": IncidentsSettings,
    "gateway": GatewaySettings,
}
CLASSES: list[type[BaseSettings]] = [*SERVICES.values(), DatabaseOpsSettings, DeadLetterSettings, DemoSettings, RestSettings]
# The servers' own accounts, which the product knows as part of its URLs, and the local stack's folder, which is needed before any setting.
NO_FIELD = {"SLA_POSTGRES_PASSWORD", "SLA_BROKER_PASSWORD", "SLA_REDIS_PASSWORD", "SLA_LOCAL_FOLDER"}


def variables(settings: type[BaseSettings]) -> set[str]:
    return {f"SLA_{name.upper()}" for name in settings.model_fields}


def test_every_setting_is_in_the_example_and_nothing_else() -> None:
    assert set(LINES) == set().union(*map(variables, CLASSES)) | NO_FIELD


@pytest.mark.parametrize("settings", CLASSES)
def test_the_defaults_shown_are_the_defaults(settings: type[BaseSettings]) -> None:
    for name, field in settings.model_fields.items():
        if field.is_required() or field.default_factory is not None or field.default is None:
            continue
        shown = LINES[f"SLA_{name.upper()}"]
        made = settings.__pydantic_validator__.validate_assignment(settings.model_construct(), name, read(shown, field.default))
        assert getattr(made, name) == field.default, name


def read(shown: str, default: object) -> object:
    return shown if not isinstance(default, bool) else shown == "true"


@pytest.mark.parametrize("service", SERVICES)
def test_compose_passes_a_service_every_setting_it_has_and_no_other(service: str) -> None:
    common = COMPOSE.partition("\nx-common:")[2].partition("\nservices:")[0]
    block = re.split(r"\n  (?=\S)|\n(?=\S)", COMPOSE.partition(f"\n  {service}:\n")[2])[0]
    passed = set(re.findall(r"^  (SLA_\w+):", common, re.MULTILINE)) | set(re.findall(r"^      (SLA_\w+):", block, re.MULTILINE))
    assert "<<: *common" in block
    assert passed == variables(SERVICES[service])


def test_every_empty_password_is_filled_in_differently_and_nothing_else_changes() -> None:
    before, after = EXAMPLE.splitlines(), filled(EXAMPLE).splitlines()
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new and not old.startswith("SLA_SECRET_KEYS")]
    assert {old.rstrip("=") for old, _ in changed} == {
        name for name in LINES if name.endswith("PASSWORD") and name != "SLA_PASSWORD"
    }  # a person's own
    passwords = [new.partition("=")[2] for _, new in changed]
    assert len(set(passwords)) == len(passwords)
    assert all(re.fullmatch("[0-9a-f]{32}", password) for password in passwords)


def test_the_key_of_secrets_is_made_and_fits() -> None:
    key = dict(line.split("=", 1) for line in filled(EXAMPLE).splitlines() if line.startswith("SLA_SECRET_KEYS"))["SLA_SECRET_KEYS"]
    Sealer([SecretStr(key)])


def test_an_existing_env_file_is_never_touched(tmp_path: Path) -> None:
    (tmp_path / ".env.example").write_text("SLA_X_PASSWORD=\n", encoding="utf-8")
    assert make(tmp_path)
    first = (tmp_path / ".env").read_text(encoding="utf-8")
    assert not make(tmp_path)
    assert (tmp_path / ".env").read_text(encoding="utf-8") == first
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0


def test_secrets_are_not_shown() -> None:
    settings = DeadLetterSettings(broker_url=SecretStr("amqp://sla:hunter2@127.0.0.1/"))
    assert "hunter2" not in repr(settings)
