"""Settings: read from the environment, refused with one sentence for each mistake."""

import pytest

from shared.settings import ServiceSettings, load


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLA_DATABASE_URL", "postgresql://sla_checker:hidden@db:5432/sla_monitor")
    monkeypatch.setenv("SLA_BROKER_URL", "amqp://sla:hidden@broker:5672/")


def test_what_the_environment_says_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLA_HEALTH_PORT", "9200")
    settings = load(ServiceSettings)
    assert (settings.health_port, settings.log_format) == (9200, "json")
    assert settings.broker_url.get_secret_value() == "amqp://sla:hidden@broker:5672/"


def test_a_password_is_not_shown() -> None:
    """Seen red with a plain str for the URLs."""
    assert "hidden" not in repr(load(ServiceSettings)) + str(load(ServiceSettings))


def test_mistakes_end_the_process_with_a_sentence_each(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("SLA_BROKER_URL")
    monkeypatch.setenv("SLA_HEALTH_PORT", "many")
    with pytest.raises(SystemExit) as ended:
        load(ServiceSettings)
    said = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2
    assert {line.split(":")[0] for line in said} == {"SLA_BROKER_URL", "SLA_HEALTH_PORT"}
    assert "hidden" not in "".join(said)
