"""Decoded frames on the disk, so that a clip is decoded once for all epochs, methods and seeds.

Only frames that are the same every time are kept: those of evaluation, and of training without jitter. A file is known
by the hash of its content, so a moved file is found again and a changed one is not.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from threading import Lock
from typing import IO, TYPE_CHECKING

from parbench.bench.util.errors import UserError
from parbench.tasks.data.package import cache_folder
from parbench.tasks.data.video.decoding import ClipFacts, decoder_version

if TYPE_CHECKING:
    import numpy as np

# How much is kept, in GiB; with 0 nothing is.
SIZE_VARIABLE, USUAL_SIZE = "PARBENCH_FRAME_CACHE_GIB", 4.0
# Of the limit, what is left once the frames used longest ago were removed.
_KEPT_SHARE = 0.8


class FrameCache:
    """A folder of frames, one file per clip and choice of frames; several threads and processes may use it."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Use a folder, which is made when something is kept.

        Args:
            folder: where.
            most_bytes: the frames used longest ago are removed beyond this; with 0 nothing is kept.
        """
        self._folder = folder
        self._most_bytes = most_bytes
        # Of the files in the folder; other processes' are counted when it is next measured.
        self._bytes: int | None = None
        self._lock = Lock()

    @staticmethod
    def usual() -> FrameCache:
        """Return the user's cache, for the installed decoder.

        Raises:
            UserError: the variable that limits it is not a number from 0, or there is no decoder.
        """
        text = os.environ.get(SIZE_VARIABLE) or str(USUAL_SIZE)
        try:
            size = float(text)
        except ValueError:
            size = -1.0
        if not 0 <= size < float("inf"):
            raise UserError(f'{SIZE_VARIABLE} is "{text}"; give a number of GiB, or 0 to keep no frames')
        return _shared(cache_folder() / "frames" / f"pyav-{decoder_version()}", int(size * 2**30))

    def facts(self, digest: str, find: Callable[[], ClipFacts]) -> ClipFacts:
        """Return what is known of the file with a hash, from the disk or by ``find``, which decodes it."""
        path = self._place(digest, "facts.json")
        try:
            return ClipFacts(**json.loads(path.read_bytes()))
        except (OSError, ValueError, TypeError):  # not there, or half written by a machine that went down
            found = find()
            self._keep(path, lambda file: file.write(json.dumps(asdict(found)).encode()))
            return found

    def frames(self, digest: str, numbers: Sequence[int], read: Callable[[], np.ndarray]) -> np.ndarray:
        """Return frames of the file with a hash, from the disk or by ``read``, which decodes them."""
        import numpy as np

        name = hashlib.sha256(json.dumps(list(numbers)).encode()).hexdigest()[:16]
        path = self._place(digest, f"{name}.npy")
        try:
            found: np.ndarray = np.load(path, allow_pickle=False)
            os.utime(path)
            return found
        except (OSError, ValueError, EOFError):
            pixels = read()
            self._keep(path, lambda file: np.save(file, pixels, allow_pickle=False))
            return pixels

    def _place(self, digest: str, name: str) -> Path:
        return self._folder / digest[:2] / f"{digest}-{name}"

    def _keep(self, path: Path, write: Callable[[IO[bytes]], object]) -> None:
        """Write a file at once or not at all."""
        if not self._most_bytes:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".") as file:
                write(file)
                file.flush()
                # A link, so that the temporary name can go; the file may be there, from another process.
                path.unlink(missing_ok=True)
                os.link(file.name, path)
            with self._lock:
                self._trim(path)
        except OSError as error:
            warnings.warn(
                f'decoded frames cannot be kept in "{self._folder}" ({error.strerror}); they are decoded again each '
                f"time. Free some space, or set {SIZE_VARIABLE} to 0",
                stacklevel=2,
            )
            self._most_bytes = 0

    def _trim(self, added: Path) -> None:
        """Remove the files used longest ago where there are too many."""
        if self._bytes is not None:
            self._bytes += added.stat().st_size
        if self._bytes is not None and self._bytes <= self._most_bytes:
            return
        files = []
        for path in self._folder.glob("*/*"):
            try:
                status = path.stat()
            except FileNotFoundError:  # another process has removed it
                continue
            files.append((status.st_mtime_ns, status.st_size, path))
        self._bytes = sum(size for _, size, _ in files)
        if self._bytes <= self._most_bytes:
            return
        for _, size, path in sorted(files):
            path.unlink(missing_ok=True)
            self._bytes -= size
            if self._bytes <= _KEPT_SHARE * self._most_bytes:
                return


@cache
def _shared(folder: Path, most_bytes: int) -> FrameCache:
    """Return one cache per process, which then measures its folder once."""
    return FrameCache(folder, most_bytes)
