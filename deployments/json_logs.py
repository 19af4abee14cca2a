"""Log lines as JSON on standard output: one object a line, whichever library wrote it, and never a prompt.

A pod's log is its standard output; Ray writes files by default, and vLLM coloured text. `vllm_logging.json` puts the
handler under vLLM's loggers in every process of the engine, `to_stdout` under the rest of the replica.
"""

from __future__ import annotations

import json
import logging
import os
import time
from typing import Any, Final

STDOUT: Final = 1

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "fileinfo", "taskName"}
_RAY_INTERNAL: Final = "serve_"


class JsonStdout(logging.Handler):
    """Writes each record to file descriptor 1 in one call.

    `sys.stdout` would not do: vLLM puts a prefix before each of its lines, and Serve may replace it by its own logger.
    One call a line keeps lines of several processes apart.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record."""
        try:
            os.write(STDOUT, (line(record) + "\n").encode())
        except Exception:
            self.handleError(record)


def line(record: logging.LogRecord) -> str:
    """Return the record as one line of JSON; values given in `extra=` stand beside time, level and message."""
    entry: dict[str, Any] = {
        "time": f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z",
        "level": record.levelname,
        "logger": record.name,
        "message": record.getMessage(),
        **{k: v for k, v in vars(record).items() if k not in _STANDARD and not k.startswith(_RAY_INTERNAL)},
    }
    if record.exc_info:
        entry["exception"] = logging.Formatter().formatException(record.exc_info)
    return json.dumps(entry, default=str)


def to_stdout() -> None:
    """Put JSON lines in the place of whatever text this process writes to its terminal; log files stay as they are."""
    handler = JsonStdout()
    for logger in (logging.getLogger(), logging.getLogger("ray"), logging.getLogger("ray.serve")):
        for old in [old for old in logger.handlers if type(old) is logging.StreamHandler]:
            logger.removeHandler(old)
            handler.filters.extend(old.filters)
        if not logger.propagate or logger is logging.root:
            logger.addHandler(handler)
    logging.root.setLevel(logging.INFO)
