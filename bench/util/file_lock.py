"""A lock between processes, also of several machines that share a file system."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from parbench.bench.util.errors import UserError

_SECONDS = 60.0


@contextmanager
def file_lock(path: Path, seconds: float = _SECONDS) -> Iterator[None]:
    """Hold an exclusive lock in the block: whatever reads a shared file, changes it and writes it needs one.

    It is a lock of the operating system, which ends with its process; the empty file ``path`` stays.

    Args:
        path: the lock's own file, in a folder that exists.
        seconds: how long to wait for another process.

    Raises:
        UserError: another process has held the lock all that time.
        OSError: the file cannot be written, or its file system has no locks.
    """
    lock = FileLock(path, timeout=seconds, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise UserError(
            f'another process has held the lock "{path}" for {seconds:.0f} seconds; end it and try again'
        ) from error
    try:
        yield
    finally:
        lock.release()
