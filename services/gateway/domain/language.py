"""Which language a reader gets: by ?lang, then the cookie, then Accept-Language (RFC 9110, 12.5.4), then English."""

LANGUAGES = ("en", "ko")


def choose(*, query: str | None, cookie: str | None, accept: str) -> str:
    """Return `en` or `ko`. What names no language that we have is passed over."""
    for wish in (query, cookie):
        if wish in LANGUAGES:
            return wish
    return next((tag for tag in _by_preference(accept) if tag in LANGUAGES), "en")


def _by_preference(accept: str) -> list[str]:
    wishes: list[tuple[float, str]] = []
    for part in accept.split(",")[:20]:
        tag, _, quality = part.strip().partition(";")
        weight = _weight(quality)
        if tag and weight > 0:
            wishes.append((weight, tag.strip().lower().split("-")[0]))
    return [tag for _, tag in sorted(wishes, key=lambda wish: -wish[0])]


def _weight(quality: str) -> float:
    name, _, value = quality.strip().partition("=")
    if name.strip() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0
