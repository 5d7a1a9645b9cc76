"""Whether a request that changes something was made by our own page or by a program, and not by somebody else's page."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def forged(*, method: str, fetch_site: str | None, origin: str | None, host: str | None) -> bool:
    """Say whether another site made the reader's browser send this.

    Browsers tell (Sec-Fetch-Site, else Origin) and pages cannot change it; programs send neither and hold no ambient cookie.
    The scheme of the origin is not compared: behind a proxy that ends TLS we do not know our own.
    """
    if method in SAFE_METHODS:
        return False
    if fetch_site is not None:
        return fetch_site not in {"same-origin", "none"}
    if origin is not None:
        return origin.partition("://")[2].lower() != (host or "").lower()
    return False
