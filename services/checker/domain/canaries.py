"""Which addresses can be canaries: those that tell whether a checker reaches anything at all."""

from urllib.parse import urlsplit

from services.checker.domain.hosts import HostRules, literal

FORM = "is no tcp://host:port, http:// or https:// address"


def flaw(url: str, rules: HostRules) -> str | None:
    """Return why an address cannot be a canary, or None. A name is judged by the addresses it has when it is looked at."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return FORM
    if parts.scheme not in {"tcp", "http", "https"} or not parts.hostname or " " in url or (parts.scheme == "tcp" and not port):
        return FORM
    if "@" in parts.netloc:
        return "must hold no user name or password: events tell it to everybody"
    address = literal(parts.hostname)
    return None if address is None else rules.refusal(str(address))
