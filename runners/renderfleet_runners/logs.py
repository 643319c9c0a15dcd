"""Logs as JSON lines on stderr: constant messages with fields. What must not be logged is struck out even if it gets here."""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog
from structlog.typing import FilteringBoundLogger

_SIGNED_URL = re.compile(r"https?://[^\s\"'?]+\?[^\s\"']+")
_secrets: set[str] = set()


def never_log(secret: str) -> None:
    """Strike this text out of every log line from now on, and each half of a `name:password` pair."""
    _secrets.update(part for part in (secret, *secret.split(":")) if len(part) >= 6)


def strike_out(text: str) -> str:
    """`text` without secrets and without the queries of URLs, which hold signatures."""
    for secret in _secrets:
        text = text.replace(secret, "[struck out]")
    return _SIGNED_URL.sub("[url struck out]", text)


def _strike_out_all(_logger: Any, _name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    return {key: strike_out(value) if isinstance(value, str) else value for key, value in event.items()}


def set_up(**fields: Any) -> FilteringBoundLogger:
    """Log to stderr, every line with `fields`. Libraries' own logs stay off: httpx logs whole URLs."""
    logging.disable(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _strike_out_all,
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    log: FilteringBoundLogger = structlog.get_logger(**fields)
    return log
