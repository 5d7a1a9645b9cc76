"""Secrets in options: sealed at rest, masked for everybody, in clear only where a probe needs them.

Which options are secret is said by the kind's own options: whatever is a `SecretStr` there, alone or deep inside. In the database each
stands as `{"sealed": "<token>"}`, a Fernet token (github.com/fernet/spec: AES-128-CBC and HMAC-SHA256), in the place of its value.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import BaseModel, SecretStr

from services.checker.domain.kinds import Flaw

MASK = "********"
"""What everybody sees in the place of a secret; written back, it keeps the secret."""

_SEALED = "sealed"
_TOKENS_BEGIN = "gAAAA"
"""The version byte 0x80 and the first zero bits of the time, in base64: how every Fernet token begins for ages to come."""

_NO_KEYS = "is a secret, and this installation has no key to seal it with: set SLA_SECRET_KEYS (.env.example says how)"
_MASKED = "must be given in clear: a mask keeps a secret only while kind and host stay what they are"
_LOOKALIKE = "must not have the form of a sealed secret"


class CannotUnseal(Exception):  # noqa: N818  # says what happened
    """A secret cannot be read: no key that is set here has sealed it. The message says what to do, and nothing of the secret."""


class CannotSeal(Exception):  # noqa: N818  # says what happened
    """Options cannot be stored; `flaws` says which, and why."""

    def __init__(self, flaws: Sequence[Flaw]) -> None:
        """Carry every flaw, each field named "options.…"."""
        super().__init__("; ".join(f"{flaw.field} {flaw.reason}" for flaw in flaws))
        self.flaws = tuple(flaws)


class Sealer:
    """Seals with the first key, unseals with any: so keys are rotated by putting a new one first and sealing everything again."""

    def __init__(self, keys: Sequence[SecretStr] = ()) -> None:
        """Take Fernet keys (32 bytes, URL-safe base64). None: nothing can be sealed. Raises ValueError for what is no key."""
        fernets = [Fernet(key.get_secret_value()) for key in keys]
        self._fernet = MultiFernet(fernets) if fernets else None

    def seal(self, options: BaseModel, stored: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the options that were set, as JSON to be stored. A secret that `stored` has already keeps its token: no change.

        Raises `CannotSeal` without keys, and where a mask stands for a secret that is not known here.
        """
        flaws: list[Flaw] = []
        as_json = options.model_dump(mode="json", exclude_unset=True, by_alias=True)  # in which secrets are stars
        sealed = self._seal(options.model_dump(exclude_unset=True, by_alias=True), as_json, stored or {}, "options", flaws)
        if flaws:
            raise CannotSeal(flaws)
        return dict(sealed)

    def unseal(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return stored options with every secret in clear, for the kind's reader: never log them. Raises `CannotUnseal`."""
        return {name: self._unseal(value) for name, value in stored.items()}

    def merge(self, written: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return what somebody wrote, in clear: with the stored secret wherever they left its mask. Raises `CannotUnseal`."""
        return dict(self._merge(dict(written), stored))

    def reseal(self, stored: Mapping[str, Any]) -> dict[str, Any]:
        """Return stored options with every secret sealed by the first key. Raises `CannotUnseal`."""
        return {name: self._reseal(value) for name, value in stored.items()}

    def _seal(self, value: Any, as_json: Any, stored: Any, where: str, flaws: list[Flaw]) -> Any:  # noqa: ANN401  # JSON
        """Return `as_json` with a token wherever `value`, the same options, has a secret."""
        if isinstance(value, SecretStr):
            return self._sealed(value.get_secret_value(), stored, where, flaws)
        if is_sealed(value):
            flaws.append(Flaw(where, _LOOKALIKE))
        if isinstance(value, dict):
            beside = stored if isinstance(stored, Mapping) else {}
            inside = zip(value.values(), as_json.items(), strict=True)
            return {name: self._seal(one, shown, beside.get(name), f"{where}.{name}", flaws) for one, (name, shown) in inside}
        if isinstance(value, list | tuple):
            others = stored if isinstance(stored, list) else []
            both = zip_longest(value, as_json, others[: len(value)])
            return [self._seal(one, shown, kept, f"{where}.{place}", flaws) for place, (one, shown, kept) in enumerate(both)]
        return as_json

    def _sealed(self, plain: str, stored: Any, where: str, flaws: list[Flaw]) -> Any:  # noqa: ANN401  # JSON
        if plain == MASK or self._fernet is None:
            flaws.append(Flaw(where, _MASKED if plain == MASK else _NO_KEYS))
            return None
        return stored if is_sealed(stored) and self._is(stored, plain) else self._token(plain)

    def _token(self, plain: str) -> dict[str, str]:
        assert self._fernet is not None  # noqa: S101  # asked before
        return {_SEALED: self._fernet.encrypt(plain.encode()).decode()}

    def _is(self, sealed: Mapping[str, str], plain: str) -> bool:
        try:
            return self._open(sealed) == plain
        except CannotUnseal:
            return False

    def _open(self, sealed: Mapping[str, str]) -> str:
        if self._fernet is None:
            msg = "its secrets cannot be read: SLA_SECRET_KEYS is not set"
            raise CannotUnseal(msg)
        try:
            return self._fernet.decrypt(sealed[_SEALED]).decode()
        except InvalidToken:
            msg = "its secrets cannot be read: none of SLA_SECRET_KEYS has sealed them; add the key that did, or write the secrets again"
            raise CannotUnseal(msg) from None

    def _unseal(self, value: Any) -> Any:  # noqa: ANN401  # JSON
        if is_sealed(value):
            return self._open(value)
        if isinstance(value, dict):
            return {name: self._unseal(one) for name, one in value.items()}
        return [self._unseal(one) for one in value] if isinstance(value, list) else value

    def _merge(self, value: Any, stored: Any) -> Any:  # noqa: ANN401  # JSON
        # Only what is stored is unsealed: a token that somebody writes is text like any other.
        if value == MASK and is_sealed(stored):
            return self._open(stored)
        if isinstance(value, dict) and isinstance(stored, Mapping):
            return {name: self._merge(one, stored.get(name)) for name, one in value.items()}
        if isinstance(value, list) and isinstance(stored, list):
            return [self._merge(one, stored[place]) if place < len(stored) else one for place, one in enumerate(value)]
        return value

    def _reseal(self, value: Any) -> Any:  # noqa: ANN401  # JSON
        if is_sealed(value):
            return self._token(self._open(value))
        if isinstance(value, dict):
            return {name: self._reseal(one) for name, one in value.items()}
        return [self._reseal(one) for one in value] if isinstance(value, list) else value


NO_KEYS = Sealer()
"""What an installation without keys has: nothing can be sealed."""


def is_sealed(value: object) -> bool:
    """Say whether a stored value is a sealed secret."""
    return (
        isinstance(value, dict)
        and value.keys() == {_SEALED}
        and isinstance(value[_SEALED], str)
        and value[_SEALED].startswith(_TOKENS_BEGIN)
    )


def mask(stored: Any) -> Any:  # noqa: ANN401  # JSON
    """Return stored options as everybody may see them; needs no key."""
    if is_sealed(stored):
        return MASK
    if isinstance(stored, dict):
        return {name: mask(one) for name, one in stored.items()}
    return [mask(one) for one in stored] if isinstance(stored, list) else stored


def has_secrets(stored: Any) -> bool:  # noqa: ANN401  # JSON
    """Say whether anything in stored options is sealed."""
    return is_sealed(stored) or any(has_secrets(one) for one in _inside(stored))


def is_masked(written: Any) -> bool:  # noqa: ANN401  # JSON
    """Say whether a mask stands anywhere in options that somebody wrote."""
    return written == MASK or any(is_masked(one) for one in _inside(written))


def _inside(value: Any) -> Iterator[Any]:  # noqa: ANN401  # JSON
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value
