"""Local images as files: in one folder a class, or wherever a list says."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.bench.util.errors import UserError

if TYPE_CHECKING:
    from datasets import Dataset


def class_names(folders: Mapping[str, Path], train: str) -> list[str]:
    """Return the names of the class folders below each split's folder, numbers in their own order.

    Args:
        folders: by split.
        train: the training split, which must have every class (its folder may be empty).

    Raises:
        UserError: a split has no class folders, images outside of them, or a class that training lacks or whose name
            cannot be printed.
    """
    found: dict[str, set[str]] = {}
    for split, folder in folders.items():
        entries = [entry for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")]
        stray = next((entry for entry in entries if not entry.is_dir()), None)
        if stray is not None or not entries:
            what = f'"{stray}" is in no class folder' if stray else f'"{folder}" is empty'
            raise UserError(f"{what}; images belong into {split}/CLASS/, one folder a class")
        found[split] = set(map(sayable, entries))
    names = set().union(*found.values())
    for split, classes in found.items():
        unknown = sorted(classes - found.get(train, names))
        if unknown:
            raise UserError(
                f'"{folders[split]}" has the class "{unknown[0]}", which "{folders[train]}" has not; remove it there, '
                "or add it here"
            )
    return sorted(names, key=lambda name: (int(name), name) if name.isdecimal() else (-1, name))


def read_class_folders(folder: Path, names: Sequence[str]) -> Dataset:
    """Return the images below ``folder/CLASS/`` by their paths, with labels."""
    from datasets import ClassLabel, Dataset, Features, Image

    paths = [(path, name) for name in names for path in image_files(folder / name)]
    columns = {"image": [str(path) for path, _ in paths], "label": [name for _, name in paths]}
    return Dataset.from_dict(columns, Features({"image": Image(decode=False), "label": ClassLabel(names=list(names))}))


def image_files(folder: Path) -> list[Path]:
    """Return the files below a folder, hidden ones aside, sorted by name.

    Raises:
        UserError: a name is not in UTF-8, or has a line break or the like in it.
    """
    found = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
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


def read_image_list(file: Path) -> Dataset:
    """Return the images that a text file lists, a line each: the path, relative to the file, and the class's number.

    The form in which VTAB-1k is handed around.

    Raises:
        UserError: a line is not of that form, or its path leaves the folder.
    """
    from datasets import Dataset, Features, Image, Value

    paths, labels = [], []
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'"{file}" cannot be read as a list of images ({error}); replace the file') from error
    for number, line in enumerate(lines, start=1):
        path, _, label = line.rpartition(" ")
        if not path or not label.isdecimal():
            raise UserError(f'line {number} of "{file}" is "{line}", and not an image\'s path and a class\'s number')
        if Path(path).is_absolute() or ".." in Path(path).parts:
            raise UserError(f'line {number} of "{file}" names an image outside its folder; refusing to read it')
        paths.append(str(file.parent / path))
        labels.append(int(label))
    features = Features({"image": Image(decode=False), "label": Value("int64")})
    return Dataset.from_dict({"image": paths, "label": labels}, features)
