"""Files and folders that editors and operating systems leave among data, and that are not data."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from parbench.bench.util.errors import UserError

# Without a dot at the beginning, by whom: Windows (the first five), macOS (the archive of a zip file, a folder's icon,
# two folders of shared volumes), Linux, network storages, Python.
_OF_SYSTEMS = frozenset(
    {
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
        "$recycle.bin",
        "system volume information",
        "__macosx",
        "icon\r",
        "network trash folder",
        "temporary items",
        "lost+found",
        "@eadir",
        "@recycle",
        "#recycle",
        "__pycache__",
    }
)


def is_hidden(name: str) -> bool:
    """Return whether a file or folder of this name is not data: a dot at its beginning, or known of a system."""
    return name.startswith(".") or name.casefold() in _OF_SYSTEMS


@dataclass(frozen=True)
class Walk:
    """The files below a folder.

    Attributes:
        files: those that are data, sorted.
        ignored: how many are not, see `is_hidden`; what is in a hidden folder counts file by file.
    """

    files: tuple[Path, ...]
    ignored: int


def walk(folder: Path) -> Walk:
    """Return the files below a folder; links to files and folders are followed.

    Raises:
        UserError: a link leads to nothing, or to a folder that it is in.
    """
    files: list[Path] = []
    ignored = 0
    home = folder.resolve()
    for path, hidden in _below(folder, False, (home, *home.parents)):
        if hidden:
            ignored += 1
        else:
            files.append(path)
    return Walk(tuple(sorted(files)), ignored)


def visible(folder: Path) -> list[Path]:
    """Return what is directly in a folder and not hidden, sorted."""
    return sorted(entry for entry in folder.iterdir() if not is_hidden(entry.name))


def _below(folder: Path, hidden: bool, above: tuple[Path, ...]) -> Iterator[tuple[Path, bool]]:
    with os.scandir(folder) as entries:
        found = sorted(Path(entry.path) for entry in entries)
    for path in found:
        unseen = hidden or is_hidden(path.name)
        if path.is_dir():
            real = path.resolve()
            if real in above and not unseen:
                raise UserError(f'the link "{path}" leads to a folder that it is in; remove it')
            if real not in above:
                yield from _below(path, unseen, (*above, real))
        elif unseen or path.is_file():
            yield path, unseen
        elif path.is_symlink():
            raise UserError(f'the link "{path}" leads to nothing; remove it, or restore what it leads to')
        else:
            raise UserError(f'"{path}" is neither a file nor a folder; remove it')
