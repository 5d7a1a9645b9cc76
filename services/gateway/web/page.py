"""The public page: written by the server, so that it can be read without anything else; kept fresh by a small script."""

import gzip
import hashlib
import json
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from services.gateway.domain.language import LANGUAGES, choose
from services.gateway.domain.summary import Seen, headline
from services.gateway.live.hub import Hub
from shared.clock import Clock
from shared.contracts.base import rfc3339
from shared.contracts.codes import IncidentStatus, Status

HERE = Path(__file__).parent
NAMES = (("en", "English"), ("ko", "한국어"))
SHAPES = {"o": "●", "po": "◐", "mo": "✕", "nd": "?", "e": "○"}
SIGNS = {
    "operational": "●",
    "degraded": "◐",
    "impaired": "◐",
    "maintenance": "◇",
    "outage": "✕",
    "unknown": "?",
    "partly_unknown": "?",
    "nothing": "○",
}
TYPES = {".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
LANGUAGE_COOKIE = "lang"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

Texts = dict[str, str]


def load_texts() -> dict[str, Texts]:
    """Return the dictionaries by language."""
    return {language: json.loads((HERE / "texts" / f"{language}.json").read_text(encoding="utf-8")) for language in LANGUAGES}


class Page:
    """The page and what belongs to it. Built once per change and language, then the same bytes for everybody."""

    def __init__(self, hub: Hub, *, clock: Clock) -> None:
        """Load templates, dictionaries and assets."""
        self._hub = hub
        self._clock = clock
        self._texts = load_texts()
        environment = Environment(
            loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        self._template = environment.get_template("page.html")
        self._macros: Any = environment.get_template("parts.html").module
        self._assets = {f"/static/{path.name}": (TYPES[path.suffix], path.read_bytes()) for path in (HERE / "static").iterdir()}
        self._tags = {name: _tag(body) for name, (_, body) in self._assets.items()}
        self._built: dict[str, tuple[Any, bytes]] = {}

    def serves(self, path: str) -> bool:
        """Say whether an address is the page or belongs to it."""
        return path == "/" or path in self._assets

    async def answer(self, scope: Any, send: Any) -> None:  # noqa: ANN401  # ASGI's own types are open
        """Answer GET or HEAD."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        asset = self._assets.get(scope["path"])
        if asset is not None:
            await self._asset(scope, headers, asset, send)
            return
        wished = parse_qs(scope["query_string"].decode("latin-1")).get("lang", [None])[0]
        language = choose(query=wished, cookie=_cookie(headers.get("cookie", "")), accept=headers.get("accept-language", ""))
        extra = [
            (b"cache-control", b"no-cache"),
            (b"vary", b"accept-language, cookie, accept-encoding"),
            (b"content-security-policy", CSP.encode()),
        ]
        if wished == language:
            extra.append((b"set-cookie", f"{LANGUAGE_COOKIE}={language}; Path=/; Max-Age=31536000; SameSite=Lax".encode()))
        await _send(scope, headers, send, 200 if self._hub.ready else 503, "text/html; charset=utf-8", self.html(language), extra)

    def html(self, language: str) -> bytes:
        """Return the page as it is now, in one language."""
        hub = self._hub
        minute = rfc3339(self._clock())[:16]  # while it is live the page is true as of now, and says so to the minute
        state = (hub.model.revision, hub.offset, hub.live, hub.as_of, hub.ready, minute)
        have = self._built.get(language)
        if have is None or have[0] != state:
            have = (state, self._render(language).encode())
            self._built[language] = have
        return have[1]

    def _render(self, language: str) -> str:
        texts = self._texts[language]
        common: dict[str, Any] = {"lang": language, "t": texts, "languages": NAMES, "signs": SIGNS, "shapes": SHAPES}
        if not self._hub.ready:
            return self._template.render(common | {"data": None})
        data = json.loads(self._hub.status_document().body)
        names = {one["id"]: _name(one, language) for one in data["services"]}
        as_of = data["as_of"] or rfc3339(self._clock())
        state = {"texts": texts, "shapes": SHAPES, "signs": SIGNS, "lang": language, "stale": data["stale"], "as_of": as_of}
        return self._template.render(
            common
            | {
                "data": data,
                "headline": headline(_seen(one) for one in data["services"]),
                "as_of": as_of,
                "moment": self._macros.moment,
                "incident": lambda one: self._macros.incident(one, texts, names),
                "planned": lambda one: self._macros.planned(one, texts, names),
                "names": names,
                "down": {one["id"] for one in data["services"] if one["status"] == Status.MAJOR_OUTAGE},
                "name_of": lambda one: names[one["id"]],
                "open_incidents": [one for one in data["incidents"] if one["status"] != IncidentStatus.RESOLVED],
                "recent_incidents": [one for one in data["incidents"] if one["status"] == IncidentStatus.RESOLVED],
                "state": json.dumps(state, ensure_ascii=False).replace("<", "\\u003c"),  # cannot end the element that it stands in
            }
        )

    async def _asset(self, scope: Any, headers: dict[str, str], asset: tuple[str, bytes], send: Any) -> None:  # noqa: ANN401
        tag = self._tags[scope["path"]]
        extra = [(b"etag", tag.encode()), (b"cache-control", b"public, max-age=300"), (b"vary", b"accept-encoding")]
        if headers.get("if-none-match") == tag:
            await send({"type": "http.response.start", "status": 304, "headers": extra})
            await send({"type": "http.response.body", "body": b""})
            return
        await _send(scope, headers, send, 200, asset[0], asset[1], extra)


def _name(one: dict[str, Any], language: str) -> str:
    name: str = (one["display_name_ko"] if language == "ko" else None) or one["display_name"]
    return name


def _seen(one: dict[str, Any]) -> Seen:
    return Seen(Status(one["status"]), degraded=one["degraded"], in_maintenance=one["maintenance"] is not None)


def _cookie(header: str) -> str | None:
    try:
        morsel = SimpleCookie(header).get(LANGUAGE_COOKIE)
    except CookieError:
        return None
    return morsel.value if morsel else None


def _tag(body: bytes) -> str:
    return f'"{hashlib.sha256(body).hexdigest()[:16]}"'


async def _send(  # noqa: PLR0917  # the parts of an answer
    scope: Any,  # noqa: ANN401  # ASGI's own types are open
    asked: dict[str, str],
    send: Any,  # noqa: ANN401
    status: int,
    content_type: str,
    body: bytes,
    extra: list[tuple[bytes, bytes]],
) -> None:
    headers = [(b"content-type", content_type.encode()), *extra]
    if "gzip" in asked.get("accept-encoding", "") and len(body) > 1000:  # noqa: PLR2004  # smaller ones fit a packet anyway
        body = gzip.compress(body, 5)
        headers.append((b"content-encoding", b"gzip"))
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body})
