"""The log of a run: what happened when, one JSON object per line.

A line has ``time`` (UTC, ISO 8601), ``level``, ``event``, ``message``, and what else belongs to the event. It holds
whatever goes to Python's `logging` during a run, from parbench at level INFO and from others at WARNING; the log of an
interrupted run continues when the run resumes. It is kept in the run's workspace, and beside its record once there
is one.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.bench.store.layout import LOG
from parbench.bench.util.secrets import redacted

if TYPE_CHECKING:
    from parbench.bench.record.run_record import RunRecord
    from parbench.bench.record.run_spec import RunSpec

_OURS = "parbench"
_log = logging.getLogger("parbench.bench.run.execute_run")


def event(name: str, message: str, level: int = logging.INFO, **facts: Any) -> None:
    """Log that something has happened in the current run.

    Args:
        name: one word or two, always the same for the same thing: ``began``, ``data ready``, ``resumed``, ...
        message: a sentence for a reader.
        facts: what a program would read: numbers, words.
    """
    _log.log(level, message, extra={"event": name, "facts": facts}, stacklevel=2)


@contextmanager
def logged(path: Path) -> Iterator[None]:
    """Write what is logged in the block to the end of a file."""
    handler = _Lines(path)
    ours = logging.getLogger(_OURS)
    level = ours.level
    ours.setLevel(logging.INFO)
    # Libraries with a handler of their own (transformers, datasets) pass nothing on to the root.
    loggers = [logging.getLogger(), *_that_pass_nothing_on()]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
        ours.setLevel(level)
        handler.close()


@contextmanager
def run_log(workspace: Path, spec: RunSpec, device: object) -> Iterator[None]:
    """Log a run that is done in the block, from its beginning on; its end is logged with its record."""
    with logged(workspace / LOG):
        event("began", str(spec), run=spec.run_id, device=str(device), pid=os.getpid(), host=socket.gethostname())
        try:
            yield
        except Exception as error:
            event("left", f"{type(error).__name__}: {error}", logging.WARNING)
            raise


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the lines of a log; an incomplete last line, left by a killed process, is skipped."""
    if not path.is_file():
        return
    with path.open(encoding="utf-8", errors="replace") as file:
        for line in file:
            try:
                entry = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(entry, dict):
                yield entry


def close_log(workspace: Path, output: Path, record: RunRecord) -> None:
    """Put the log of a run's workspace, if it has one, beside its record; how the run ended is its last line."""
    before = workspace / LOG
    if not before.is_file():
        return
    text = before.read_bytes()
    if text and not text.endswith(b"\n"):  # half a line, of a process that was killed
        text += b"\n"
    level = "INFO" if record.status in ("ok", "skipped") else "ERROR"
    facts = {"status": record.status.value, "metrics": record.metrics}
    last = _line(datetime.now(UTC), level, "ended", record.reason or "all done", facts)
    (output / LOG).write_bytes(text + last.encode("utf-8", "backslashreplace"))


class _Lines(logging.Handler):
    """Appends to a file and flushes every line, since the process may be killed at any time."""

    def __init__(self, path: Path) -> None:
        super().__init__(logging.INFO)
        self._file = path.open("a", encoding="utf-8", errors="backslashreplace")
        if path.stat().st_size and not path.read_bytes().endswith(b"\n"):
            self._file.write("\n")

    def emit(self, record: logging.LogRecord) -> None:
        ours = record.name.partition(".")[0] == _OURS
        if not ours and record.levelno < logging.WARNING:
            return
        facts = dict(getattr(record, "facts", {}))
        if not ours:
            facts["logger"] = record.name
        if record.exc_info and record.exc_info[0] is not None:
            facts["trace"] = "".join(traceback.format_exception(*record.exc_info))
        try:
            self._file.write(
                _line(
                    datetime.fromtimestamp(record.created, UTC),
                    record.levelname,
                    getattr(record, "event", "message"),
                    record.getMessage(),
                    facts,
                )
            )
            self._file.flush()
        except (OSError, ValueError, TypeError):  # a full disk, or a library's message that does not fit its arguments
            self.handleError(record)

    def close(self) -> None:
        self._file.close()
        super().close()


def _line(time: datetime, level: str, name: str, message: str, facts: dict[str, Any]) -> str:
    entry = {"time": time.isoformat(timespec="milliseconds"), "level": level, "event": name, "message": message}
    cleaned = {key: redacted(value) if isinstance(value, str) else value for key, value in (entry | facts).items()}
    return json.dumps(cleaned, ensure_ascii=False, default=str) + "\n"


def _that_pass_nothing_on() -> list[logging.Logger]:
    known = list(logging.getLogger().manager.loggerDict.values())
    return [logger for logger in known if isinstance(logger, logging.Logger) and not logger.propagate]
