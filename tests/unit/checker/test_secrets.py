"""Secrets in options: sealed, masked, kept by their mask, and sealed anew when keys rotate."""

import json
from typing import Any

import pytest
from cryptography.fernet import Fernet
from pydantic import Field, SecretStr, ValidationError

from services.checker.probes.options import Options
from services.checker.secrets import MASK, CannotSeal, CannotUnseal, Sealer, has_secrets, mask
from services.checker.settings import CheckerSettings

FIRST, SECOND = (SecretStr(Fernet.generate_key().decode()) for _ in range(2))


class Signing(Options):
    """How a test signs in."""

    user: str = "nobody"
    password: SecretStr | None = None


class Everything(Options):
    """A secret in every place there is."""

    method: str = "GET"
    port: int = 1
    key: SecretStr = SecretStr("")
    headers: dict[str, SecretStr] = Field(default_factory=dict)
    signing: Signing = Signing()
    several: tuple[SecretStr, ...] = ()
    free: dict[str, Any] = Field(default_factory=dict)


WRITTEN: dict[str, Any] = {
    "method": "POST",
    "key": "pem-0",
    "headers": {"Authorization": "bearer-1", "sealed": "header-2"},
    "signing": {"user": "me", "password": "pass-3"},
    "several": ["one-4", "two-5"],
    "free": {"x": [1, 2.5, None]},
}
SECRETS = ("pem-0", "bearer-1", "header-2", "pass-3", "one-4", "two-5")


def read(values: dict[str, Any]) -> Everything:
    return Everything.model_validate_json(json.dumps(values))


def test_what_was_written_comes_back_and_nothing_of_it_is_stored_or_shown_in_clear() -> None:
    """Seen red with `_seal` passing by tuples: a list's secrets were stored in clear."""
    sealer = Sealer([FIRST])
    stored = sealer.seal(read(WRITTEN))
    assert json.loads(json.dumps(stored)) == stored
    assert not [secret for secret in SECRETS if secret in json.dumps([stored, mask(stored)])]
    assert sealer.unseal(stored) == WRITTEN
    assert mask(stored) == WRITTEN | {
        "key": MASK,
        "headers": {"Authorization": MASK, "sealed": MASK},
        "signing": {"user": "me", "password": MASK},
        "several": [MASK, MASK],
    }
    assert has_secrets(stored)
    assert not has_secrets(sealer.seal(read({"method": "GET"})))


def test_a_mask_keeps_the_stored_secret_and_an_unchanged_one_keeps_its_token() -> None:
    sealer = Sealer([FIRST])
    stored = sealer.seal(read(WRITTEN))
    merged = sealer.merge(mask(stored), stored)
    assert merged == WRITTEN
    assert sealer.seal(read(merged), stored) == stored
    changed = sealer.seal(read(merged | {"key": "pem-new"}), stored)
    assert [name for name in stored if changed[name] != stored[name]] == ["key"]


def test_a_mask_of_nothing_is_refused_with_its_place() -> None:
    with pytest.raises(CannotSeal) as refused:
        Sealer([FIRST]).seal(read({"headers": {"X": MASK}, "several": ["a", MASK]}))
    assert [flaw.field for flaw in refused.value.flaws] == ["options.headers.X", "options.several.1"]


def test_a_token_that_somebody_writes_is_not_opened() -> None:
    """Whoever can read the table could else have another service's secret sent to a host of their own. Seen red: merge by unsealing all."""
    sealer = Sealer([FIRST])
    foreign = sealer.seal(read({"key": "another"}))["key"]
    assert sealer.merge({"free": foreign}, {}) == {"free": foreign}
    with pytest.raises(CannotSeal):
        sealer.seal(read({"free": {"x": foreign}}))


def test_keys_rotate() -> None:
    old, both, new = Sealer([FIRST]), Sealer([SECOND, FIRST]), Sealer([SECOND])
    stored = old.seal(read(WRITTEN))
    with pytest.raises(CannotUnseal, match="none of SLA_SECRET_KEYS"):
        new.unseal(stored)
    assert new.unseal(both.reseal(stored)) == WRITTEN
    with pytest.raises(CannotUnseal):
        old.unseal(both.reseal(stored))


def test_without_keys_a_secret_is_refused_with_what_to_set_and_nothing_else_is() -> None:
    none = Sealer()
    assert none.seal(read({"method": "PUT"})) == {"method": "PUT"}
    with pytest.raises(CannotSeal, match="SLA_SECRET_KEYS") as refused:
        none.seal(read(WRITTEN))
    assert not [secret for secret in SECRETS if secret in str(refused.value)]
    with pytest.raises(CannotUnseal, match="SLA_SECRET_KEYS is not set"):
        none.unseal(Sealer([FIRST]).seal(read(WRITTEN)))


def test_keys_come_by_comma_and_one_that_is_none_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLA_DATABASE_URL", "postgresql://")
    monkeypatch.setenv("SLA_BROKER_URL", "amqp://")
    monkeypatch.setenv("SLA_SECRET_KEYS", f"{FIRST.get_secret_value()} , {SECOND.get_secret_value()}")
    settings = CheckerSettings()
    assert [key.get_secret_value() for key in settings.secret_keys] == [FIRST.get_secret_value(), SECOND.get_secret_value()]
    assert FIRST.get_secret_value() not in repr(settings)
    monkeypatch.setenv("SLA_SECRET_KEYS", "hunter2")
    with pytest.raises(ValidationError) as refused:
        CheckerSettings()
    assert "hunter2" not in str(refused.value.errors(include_url=False, include_input=False, include_context=False))
