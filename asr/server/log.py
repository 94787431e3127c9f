"""Log lines as JSON objects on stderr. Recognised texts are not in them unless asked for."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

logger = logging.getLogger("rill.server")


class JsonFormatter(logging.Formatter):
    """One object per line: time, level, event, then the fields of the event; also the worker, if there are several."""

    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self._own = {} if worker is None else {"worker": worker}

    def format(self, record: logging.LogRecord) -> str:
        content: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **self._own,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content, ensure_ascii=False)


def log(event: str, level: int = logging.INFO, exception: BaseException | None = None, **fields: Any) -> None:
    """Write one event."""
    logger.log(level, event, extra={"fields": fields}, exc_info=exception)


def to_stderr(worker: int | None = None) -> None:
    """Send events of the server and warnings of uvicorn to stderr as JSON; those of a worker name it."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter(worker))
    for name, level in (("rill.server", logging.INFO), ("uvicorn", logging.WARNING)):
        named = logging.getLogger(name)
        named.handlers = [handler]
        named.setLevel(level)
        named.propagate = False
