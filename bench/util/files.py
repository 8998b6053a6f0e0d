"""Writing files so that a crash leaves the old or the new one."""

from __future__ import annotations

import hashlib
import os
import uuid
from contextlib import AbstractContextManager
from pathlib import Path

from parbench.bench.util.file_errors import writing


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, or a crash, sees all of it or none of it; text is written as UTF-8."""
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    with temporary.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)
    _sync(path.parent)


def explained(path: Path) -> AbstractContextManager[None]:
    """Return a block in which a refusal to write into a store is a sentence, see `writable`."""
    return writing(path, "another --out")


def _sync(path: Path) -> None:
    """Make sure that a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
