"""One JSON object a line: what happened, with the request's id; never pixels, file contents, keys, or what a client called its files."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import IO, Any

__all__ = ["JsonLines", "event", "log_to"]

_LOGGER = logging.getLogger("cellclf.serving")


class JsonLines(logging.Formatter):
    """A log record as one JSON object: time, level, event, and the event's own fields; other libraries' records have a message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        fields: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        own = getattr(record, "fields", None)
        if own is None:
            fields |= {"event": record.name, "message": record.getMessage()}
        else:
            fields |= {"event": record.getMessage(), **own}
        if record.exc_info:
            fields["traceback"] = self.formatException(record.exc_info)
        return json.dumps(fields, ensure_ascii=False, default=str)


def log_to(stream: IO[str] | None = None, *, level: str = "info") -> None:
    """Send the service's log, and uvicorn's warnings, to a stream as JSON lines; default stderr."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(JsonLines())
    for name, lowest in (("cellclf.serving", level.upper()), ("uvicorn", "WARNING")):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(lowest)
        logger.propagate = False


def event(name: str, level: int = logging.INFO, **fields: Any) -> None:
    """Log one event."""
    if _LOGGER.isEnabledFor(level):
        _LOGGER.log(level, name, extra={"fields": fields})
