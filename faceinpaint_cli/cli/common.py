"""Options that every command has, and the logging behind them."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

HELP_NAMES = {"help_option_names": ["-h", "--help"], "max_content_width": 110}


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (ISO 8601), level, logger, message."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {"time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"), "level": record.levelname.lower(),
                 "logger": record.name, "message": record.getMessage()}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False)


def configure_logging(verbose: int, quiet: bool, log_format: str) -> None:
    """Send the project's logs to stderr: warnings by default, -v info, -vv debug, -q errors only."""
    level = logging.ERROR if quiet else (logging.WARNING, logging.INFO, logging.DEBUG)[min(verbose, 2)]
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("faceinpaint: %(levelname)s: %(message)s")
    handler.setFormatter(JsonFormatter() if log_format == "json" else plain)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for package in ("faceinpaint_cli", "faceinpaint_train", "faceinpaint_bench"):
        logging.getLogger(package).setLevel(level)


def common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add --no-progress, -v, -q and --log-format; the command gets `progress: bool` and logging is set up.

    `progress` is true only where stderr is a terminal.
    """

    @click.option("--no-progress", is_flag=True, help="No progress bars (they are shown only on a terminal).")
    @click.option("-v", "--verbose", count=True, help="Say more; twice: everything.")
    @click.option("-q", "--quiet", is_flag=True, help="Only errors.")
    @click.option("--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True,
                  help="Form of the log lines on stderr.")
    @wraps(function)
    def wrapped(*args: Any, no_progress: bool, verbose: int, quiet: bool, log_format: str, **kwargs: Any) -> Any:
        configure_logging(verbose, quiet, log_format)
        return function(*args, progress=sys.stderr.isatty() and not no_progress and not quiet, **kwargs)

    return wrapped
