"""Local data sets in the layout in which their publishers distribute them, images beside files of annotations."""

from __future__ import annotations

import hashlib
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from parbench.bench.util.errors import UserError
from parbench.bench.util.file_errors import reading
from parbench.tasks.data.published_folder import PublishedFolder
from parbench.tasks.data.source import DataRef
from parbench.tasks.data.text_files import read_text, unreadable

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class PublishedFiles(PublishedFolder):
    """One data set of images beside files of annotations.

    Attributes:
        files: names of the files of annotations, relative to the data set's folder.
    """

    files: ClassVar[tuple[str, ...]]

    @abstractmethod
    def rows(self, folder: Path) -> Mapping[str, list[dict[str, Any]]]:
        """Return the rows of every split by its name: texts, and paths of images in columns ``image`` and ``images``.

        Raises:
            UserError: a file is not of the publishers' form.
        """

    def lacking(self, folder: Path) -> str | None:
        """Return which file is not there."""
        absent = [name for name in self.files if not (folder / name).is_file()]
        return f'there is no file "{absent[0]}" in "{folder}"' if absent else None

    def revision(self, data: DataRef) -> str:
        """Return the hash of the annotations, which name the images.

        The images, which are many gigabytes, are taken for those that the publishers have under these names.

        Raises:
            UserError: a file is not there or cannot be read.
        """
        total = hashlib.sha256()
        folder = self._folder(data)
        for name in sorted(self.files):
            with reading(folder / name), (folder / name).open("rb") as file:
                total.update(f"{name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return f"sha256:{total.hexdigest()}"

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Read every split.

        Raises:
            UserError: a file or an image is not there, or is not of the publishers' form.
        """
        folder = self._folder(data)
        found = self.rows(folder)
        lacking = next((split for split in data.split_names if not found.get(split)), None)
        if lacking:
            raise UserError(f'the files in "{folder}" have no example of the split "{lacking}"; get them again')
        return {split: _as_dataset(found[split]) for split in data.split_names}

    def _folder(self, data: DataRef) -> Path:
        if missing := self.missing(data):
            raise UserError(f"{missing}; put it there, or give another --data-root")
        return self.root / data.folder


def read_json(path: Path) -> Any:
    """Return the content of a JSON file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        return json.loads(read_text(path))
    except RecursionError as error:
        raise unreadable(path, "it is nested too deeply") from error
    except ValueError as error:
        raise unreadable(path, f"it is not JSON ({error})") from error


def read_json_lines(path: Path) -> list[Any]:
    """Return the values of a file of JSON lines.

    Raises:
        UserError: it cannot be read.
    """
    found = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if line.strip():
            try:
                found.append(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise unreadable(path, f"line {number} is not JSON ({error})") from error
    return found


def field(row: Any, name: str, kind: type | tuple[type, ...], path: Path) -> Any:
    """Return a field of an object in a file of annotations.

    Raises:
        UserError: it is not there, or of another type.
    """
    value = row.get(name) if isinstance(row, dict) else None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is int):
        raise unreadable(path, f'an entry has no "{name}" as its publishers write it: {str(row)[:80]}')
    return value


def image_file(folder: Path, name: str, where: Sequence[str], what: str = "image") -> str:
    """Return the path of an image, or of another file of an example, below one of some folders.

    Args:
        folder: the data set's.
        name: the image's own, without a folder.
        where: the folders that it may be in, relative to ``folder``.
        what: what the file is, for an error.

    Raises:
        UserError: it is in none of them, or its name leads elsewhere.
    """
    if Path(name).name != name or name in ("", ".", ".."):
        raise UserError(f'the annotations in "{folder}" name the {what} "{name}", which is no file\'s name')
    for place in where:
        path = folder / place / name
        if path.is_file():
            return str(path)
    listed = " or ".join(f'"{folder / place}"' for place in where)
    raise UserError(f'there is no {what} "{name}" in {listed}; put it there')


def _as_dataset(rows: Sequence[Mapping[str, Any]]) -> Dataset:
    from datasets import Dataset, Image, List

    dataset = Dataset.from_list([dict(row) for row in rows])
    for column, feature in (("image", Image(decode=False)), ("images", List(Image(decode=False)))):
        if column in dataset.column_names:
            dataset = dataset.cast_column(column, feature)
    return dataset
