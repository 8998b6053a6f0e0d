"""Local images and videos as files: in one folder per class, or wherever a list names them."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError
from parbench.tasks.data.hidden import visible, walk
from parbench.tasks.data.source import Media
from parbench.tasks.data.text_files import read_text

if TYPE_CHECKING:
    from datasets import Dataset

_ONE = {"image": "an image", "video": "a video"}


def class_names(folders: Mapping[str, Path], train: str, media: Media = "image") -> list[str]:
    """Return the names of the class folders below each split's folder, numbers in their own order.

    Args:
        folders: by split.
        train: the training split, which must have every class (its folder may be empty).
        media: what is in them.

    Raises:
        UserError: a split has no class folders, files outside of them, or a class that training lacks or whose name
            cannot be printed.
    """
    found: dict[str, set[str]] = {}
    for split, folder in folders.items():
        entries = visible(folder)
        stray = next((entry for entry in entries if not entry.is_dir()), None)
        if stray is not None or not entries:
            what = f'"{stray}" is in no class folder' if stray else f'"{folder}" is empty'
            raise UserError(f"{what}; {media}s belong into {split}/CLASS/, one folder per class")
        found[split] = set(map(sayable, entries))
    names = set().union(*found.values())
    for split, classes in found.items():
        unknown = sorted(classes - found.get(train, names))
        if unknown:
            raise UserError(
                f'"{folders[split]}" has the class "{unknown[0]}", which "{folders[train]}" does not have; remove it, '
                "or add it there"
            )
    return sorted(names, key=lambda name: (int(name), name) if name.isdecimal() else (-1, name))


def read_class_folders(folder: Path, names: Sequence[str], media: Media = "image") -> Dataset:
    """Return the images or videos below ``folder/CLASS/`` by their paths, with labels."""
    from datasets import ClassLabel, Dataset, Features

    # A split may lack a class that another has.
    paths = [(path, name) for name in names if (folder / name).is_dir() for path in image_files(folder / name)]
    columns = {media: [str(path) for path, _ in paths], "label": [name for _, name in paths]}
    return Dataset.from_dict(columns, Features({media: encoded(media), "label": ClassLabel(names=list(names))}))


def encoded(media: Media) -> Any:
    """Return the feature of a column of files that are not decoded."""
    from datasets import Image, Video

    return Image(decode=False) if media == "image" else Video(decode=False)


def class_folders(folder: Path) -> list[str]:
    """Return the names of the folders in a split's folder, each of which is a class.

    Raises:
        UserError: a name cannot be printed.
    """
    return [sayable(entry) for entry in visible(folder) if entry.is_dir()]


def image_files(folder: Path) -> list[Path]:
    """Return the files below a folder, hidden ones aside (see `parbench.tasks.data.hidden`), sorted by name.

    Raises:
        UserError: a name cannot be printed, or a link leads nowhere.
    """
    found = list(walk(folder).files)
    for path in found:
        sayable(path)
    return found


def sayable(path: Path) -> str:
    """Return the name of a file or folder, which records and tables must be able to repeat.

    Raises:
        UserError: it is not in UTF-8, or has a control character in it.
    """
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in path.name):
        raise UserError(f"the name {path.name!a} cannot be printed; rename the file or folder")
    return path.name


def read_image_list(file: Path, media: Media = "image") -> Dataset:
    """Return the files that a text file lists, one per line: the path, relative to the file, and the class's number.

    This is the form in which VTAB-1k is distributed.

    Raises:
        UserError: a line is not of that form, or its path leaves the folder.
    """
    from datasets import Dataset, Features, Value

    paths, labels = [], []
    lines = read_text(file).replace("\r\n", "\n").removesuffix("\n")
    for number, line in enumerate(lines.split("\n") if lines else (), start=1):
        path, _, label = line.rpartition(" ")
        if not path or not label.isdecimal():
            raise UserError(
                f'line {number} of "{file}" is "{line}", and not {_ONE[media]}\'s path and a class\'s number'
            )
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise UserError(f'line {number} of "{file}" names {_ONE[media]} outside its folder; refusing to read it')
        paths.append(str(file.parent / path))
        labels.append(int(label))
    features = Features({media: encoded(media), "label": Value("int64")})
    return Dataset.from_dict({media: paths, "label": labels}, features)
