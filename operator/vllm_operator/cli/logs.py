"""Log lines of the operator: JSON for machines, or text for a terminal."""

from __future__ import annotations

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

FIELDS = "%(asctime)s %(levelname)s %(name)s %(message)s"
STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName"}


class TextFormatter(logging.Formatter):
    """The message, then what was attached to it as ``key=value``."""

    def format(self, record: logging.LogRecord) -> str:
        """One line (and a traceback, where there is one)."""
        line = super().format(record)
        attached = {key: value for key, value in record.__dict__.items() if key not in STANDARD}
        return line + "".join(f" {key}={value}" for key, value in attached.items())


def configure_logging(log_format: str, level: str) -> None:
    """Send everything to standard error in one format; Kopf and libraries only from warnings on."""
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        renames = {"asctime": "time", "levelname": "level", "name": "logger"}
        handler.setFormatter(JsonFormatter(FIELDS, rename_fields=renames))
    else:
        handler.setFormatter(TextFormatter("%(asctime)s %(levelname)-7s %(message)s"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("vllm_operator").setLevel(level.upper())
