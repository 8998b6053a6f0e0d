"""A temporary folder whose name leaves room for the addresses of Unix sockets."""

from __future__ import annotations

import os
import tempfile
from multiprocessing import util
from pathlib import Path

from parbench.bench.util.errors import UserError

# Of an address of a Unix socket (sun_path) Linux takes 107 bytes.
_LONGEST_ADDRESS = 107
# What multiprocessing appends to the temporary folder: "/pymp-xxxxxxxx" and "/listener-xxxxxxxx".
OF_MULTIPROCESSING = 40
_SHORT_FOLDERS = ("/tmp", "/var/tmp", "/dev/shm")  # noqa: S108 -- a private folder is made in it


def short_temporary_folder(appended: int = OF_MULTIPROCESSING, usual: str | None = None) -> Path | None:
    """Return a folder for sockets where the usual temporary folder (``TMPDIR``) has too long a name for them.

    Args:
        appended: bytes of an address after the folder.
        usual: the folder that is used otherwise, where that is not Python's.

    Returns:
        ``None`` where the usual one is short enough.

    Raises:
        UserError: there is no other folder that can be written to.
    """
    usual = usual or tempfile.gettempdir()
    longest = _LONGEST_ADDRESS - appended
    if len(os.fsencode(usual)) <= longest:
        return None
    for folder in _SHORT_FOLDERS:
        if os.access(folder, os.W_OK | os.X_OK):
            return Path(folder)
    raise UserError(
        f'the temporary folder "{usual}" has too long a name for a socket; set TMPDIR to one of at most '
        f"{longest} characters"
    )


def shorten_socket_paths() -> None:
    """Have multiprocessing make its private folder, which it makes once, where sockets fit."""
    folder = short_temporary_folder()
    if folder is None:
        return
    usual = tempfile.tempdir
    tempfile.tempdir = str(folder)
    try:
        util.get_temp_dir()
    finally:
        tempfile.tempdir = usual
