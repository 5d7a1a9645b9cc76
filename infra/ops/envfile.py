"""`.env`: made once from `.env.example`, with every empty password and the key of secrets filled in."""

import base64
import re
import secrets
from pathlib import Path

_EMPTY_PASSWORD = re.compile(r"^(SLA_\w*PASSWORD)=$", re.MULTILINE)
_NO_KEY = re.compile(r"^(SLA_SECRET_KEYS)=$", re.MULTILINE)


def filled(example: str) -> str:
    """Return the example with a generated password wherever one is missing (hexadecimal: safe in URLs and in shells), and a key."""
    with_key = _NO_KEY.sub(lambda found: f"{found[1]}={new_key()}", example)
    return _EMPTY_PASSWORD.sub(lambda found: f"{found[1]}={secrets.token_hex(16)}", with_key)


def new_key() -> str:
    """Return a key that seals secrets: what `Fernet.generate_key` returns, with the standard library alone."""
    return base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


def make(folder: Path) -> bool:
    """Write `.env` beside `.env.example`, readable by its owner only, unless there is one. Returns whether it was made."""
    target = folder / ".env"
    if target.exists():
        return False
    partial = folder / ".env.partial"
    partial.touch(mode=0o600)
    partial.write_text(filled((folder / ".env.example").read_text(encoding="utf-8")), encoding="utf-8")
    partial.replace(target)
    return True


def main() -> None:
    """Make it here, with nothing but the standard library: Compose needs it before anything is installed."""
    if make(Path.cwd()):
        print(".env written, with generated passwords")


if __name__ == "__main__":
    main()
