"""Keeps every raw judgment on disk, so that no request is paid for twice.

Layout::

    FOLDER/
      ab/abcdef....json      one judgment: the inquiry and the reply; named by the hash of the inquiry
      aside/                 unreadable files, moved here, never deleted
"""

from __future__ import annotations

import json
import os
import uuid
import warnings
from dataclasses import asdict, fields
from pathlib import Path

from parbench.bench.util.errors import UserError
from parbench.tasks.judge.outcome import Inquiry, Reply

_REPLY_FIELDS = {field.name for field in fields(Reply)}


class JudgmentCache:
    """The judgments under one folder. Failures are not kept: `put` takes replies only.

    Files are written atomically: a crash loses only the judgments that were under way, and several processes may share
    a folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, inquiry: Inquiry) -> Path:
        """Return the file of a judgment."""
        return self.folder / inquiry.key[:2] / f"{inquiry.key}.json"

    def get(self, inquiry: Inquiry) -> Reply | None:
        """Return the judgment of exactly this inquiry, or ``None``; a damaged file is moved aside, with a warning.

        Raises:
            UserError: the folder cannot be read.
        """
        path = self.path(inquiry)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise UserError(
                f'the judgment "{path}" cannot be read: {error.strerror}; change its permissions'
            ) from error
        reply = _reply(content, inquiry)
        if reply is None:
            self._move_aside(path)
        return reply

    def put(self, inquiry: Inquiry, reply: Reply) -> None:
        """Keep a judgment.

        Raises:
            UserError: the folder cannot be written to.
        """
        path = self.path(inquiry)
        content = json.dumps({**inquiry.identity(), "reply": asdict(reply), "sha256": reply.sha256}, indent=1)
        temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("w", encoding="utf-8") as file:
                file.write(content + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except OSError as error:
            raise UserError(
                f'cannot keep judgments in "{self.folder}": {error.strerror}; free space or change its permissions'
            ) from error

    def _move_aside(self, path: Path) -> None:
        aside = self.folder / "aside"
        try:
            aside.mkdir(exist_ok=True)
            os.replace(path, aside / f"{path.stem}-{uuid.uuid4().hex[:8]}.json")
        except OSError as error:
            raise UserError(
                f'the judgment "{path}" is damaged and cannot be moved aside: {error.strerror}; delete it'
            ) from error
        warnings.warn(
            f'the judgment "{path}" is damaged; it was moved to "{aside}" and is requested again', stacklevel=4
        )


def _reply(content: bytes, inquiry: Inquiry) -> Reply | None:
    try:
        kept = json.loads(content)
        found = kept.pop("reply")
        checksum = kept.pop("sha256")
    except (ValueError, KeyError, AttributeError, TypeError):
        return None
    if kept != inquiry.identity() or not isinstance(found, dict) or set(found) != _REPLY_FIELDS:
        return None
    reply = Reply(**found)
    return reply if isinstance(reply.text, str) and reply.sha256 == checksum else None
