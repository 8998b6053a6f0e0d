"""Writing files so that a crash leaves the old or the new content."""

from __future__ import annotations

import hashlib
import os
import uuid
from contextlib import AbstractContextManager
from pathlib import Path

from parbench.bench.util.file_errors import writing


def sha256_of_file(path: Path) -> str:
    """Return the sha256 of a file's content as hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that readers see the old or the new content and never a part; text is written as UTF-8."""
    temporary = path.with_name(f".{path.name}-{uuid.uuid4().hex}")
    try:
        with temporary.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        # Nothing is left of it where it could not be written.
        temporary.unlink(missing_ok=True)
    sync(path.parent)


def explained(path: Path) -> AbstractContextManager[None]:
    """Return a context in which an `OSError` of writing into a store becomes a `UserError`, see `writing`."""
    return writing(path, "another --out")


def sync(path: Path) -> None:
    """Flush a file's content, or a folder's entries, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
