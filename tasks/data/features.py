"""Features of videos in files of NumPy's: one file per video, with a row of numbers for each segment."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from parbench.bench.util.errors import UserError

# The array's name in a file.
ARRAY = "features"
# A file of a few kilobytes can claim to hold any array: an hour of video has 2,400 segments.
MOST_SEGMENTS, MOST_NUMBERS = 100_000, 100_000_000

# What broken archives and arrays raise; `RuntimeError` those with a password, `NotImplementedError` odd compressions.
_BROKEN = (OSError, ValueError, EOFError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error)


def shape_of(path: Path, name: str) -> tuple[int, int]:
    """Return the number of segments and of numbers of each; only the file's header is read.

    Args:
        path: an ``.npz`` file.
        name: its name in an error.

    Raises:
        UserError: it has no array of the name `ARRAY`, or it is not one of real numbers with a row per segment.
    """
    with _explained(path, name), _opened(path) as file:
        return _header(file)


def load(path: Path, name: str) -> np.ndarray:
    """Return the features, float32 of shape (segments, numbers).

    Args:
        path: an ``.npz`` file.
        name: its name in an error.

    Raises:
        UserError: they cannot be read, see `shape_of`, or a number is not finite.
    """
    with _explained(path, name):
        with _opened(path) as file:
            _header(file)
        with _opened(path) as file:
            found = np.asarray(npy.read_array(file, allow_pickle=False), dtype=np.float32)
        if not np.isfinite(found).all():
            row = int(np.flatnonzero(~np.isfinite(found).all(axis=1))[0])
            raise ValueError(f"the features of segment {row} are not finite")
        return found


def save(path: Path, features: np.ndarray) -> None:
    """Write the features of a video, of shape (segments, numbers), in 16 bits as the publishers do."""
    np.savez(path, features=features.astype(np.float16))


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    member = f"{ARRAY}.npy"
    with zipfile.ZipFile(path) as archive:
        if member not in archive.namelist():
            raise ValueError(f'it has no array "{ARRAY}"')
        with archive.open(member) as file:
            yield file


def _header(file: IO[bytes]) -> tuple[int, int]:
    read: Any = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(npy.read_magic(file))
    if read is None:
        raise ValueError("it is of a version of NumPy's format that is not known")
    shape, _, dtype = read(file)
    if dtype.kind != "f":
        raise ValueError(f"its numbers are {dtype}, and features are of floating point")
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"it has the shape {shape}, and features have a row per segment")
    if shape[0] > MOST_SEGMENTS or shape[0] * shape[1] > MOST_NUMBERS:
        raise ValueError(f"it has the shape {shape}, and more than {MOST_NUMBERS:,} numbers are not read")
    return int(shape[0]), int(shape[1])


@contextmanager
def _explained(path: Path, name: str) -> Iterator[None]:
    try:
        yield
    except _BROKEN as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise UserError(f'{name} ("{path}") cannot be read as features: {reason}; replace the file') from error
