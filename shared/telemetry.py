"""Logs with one correlation id from a REST call to the last consumer. Metrics are declared in the modules that own them."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import structlog

from shared.settings import TelemetrySettings

_CORRELATION = "correlation_id"


def configure_logging(settings: TelemetrySettings, *, service: str) -> None:
    """Make every log line of this process, libraries' included, JSON or console text with time, level and correlation id."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared_steps: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared_steps, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler()
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared_steps,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, _service(service), renderer],
        )
    )
    logging.basicConfig(handlers=[handler], level=level, force=True)
    for talkative in ("aio_pika", "aiormq", "httpx", "httpcore", "uvicorn.access", "faststream"):
        logging.getLogger(talkative).setLevel(max(level, logging.WARNING))


def _service(name: str) -> structlog.typing.Processor:
    def add(_logger: object, _method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event["service"] = name
        return event

    return add


def logger(name: str) -> structlog.stdlib.BoundLogger:
    """Return the logger of a module."""
    bound: structlog.stdlib.BoundLogger = structlog.get_logger(name)
    return bound


def correlation_id() -> str:
    """Return the id that the present work runs under; a new one where nothing set it."""
    known = structlog.contextvars.get_contextvars().get(_CORRELATION)
    return known if isinstance(known, str) and known else uuid4().hex


@contextmanager
def correlated(value: str) -> Iterator[None]:
    """Let everything inside log and publish under this correlation id."""
    with structlog.contextvars.bound_contextvars(**{_CORRELATION: value or uuid4().hex}):
        yield
