"""Local files by the names that a task gives them, where those are not the hub's names of splits."""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UserError
from tasks.data.folder import ENDINGS, _read
from tasks.data.image_files import class_names, image_files, read_class_folders
from tasks.data.source import DataRef

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class TaskFiles:
    """Files under one root: ``ROOT/data.folder/split``.

    A split's name is a file's, with or without its ending; or that of a folder of images, one folder in it a class.
    """

    root: Path

    def missing(self, data: DataRef) -> str | None:
        """Return which folder or split is not there."""
        folder = self.root / data.folder
        if not folder.is_dir():
            return f'there is no folder "{data.folder}" in "{self.root}"'
        for split in data.split_names:
            if not _candidates(folder, split):
                return f'there is neither a file nor a folder of images called "{split}" in "{folder}"'
        return None

    def describe(self, data: DataRef) -> str:
        """Return the folder's own name: a full path says more of a machine than of the data."""
        return "local files" if data.folder == "." else f"local folder {data.folder}"

    def revision(self, data: DataRef) -> str:
        """Return the hash of the files' names and contents."""
        total = hashlib.sha256()
        for _, path in self._paths(data):
            for file in image_files(path) if path.is_dir() else [path]:
                name = file.relative_to(path.parent).as_posix()
                total.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        return f"sha256:{total.hexdigest()}"

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Read every split.

        Raises:
            UserError: a split is not there, there are two of its name, or it cannot be read.
        """
        paths = dict(self._paths(data))
        folders = {split: path for split, path in paths.items() if path.is_dir()}
        names = class_names(folders, data.train) if folders else []
        return {
            split: read_class_folders(path, names) if path.is_dir() else _rows_of(path) for split, path in paths.items()
        }

    def paths(self, data: DataRef) -> list[Path]:
        """Return every file or folder that a split's name could mean; none where there is none."""
        return [path for split in data.split_names for path in _candidates(self.root / data.folder, split)]

    def _paths(self, data: DataRef) -> Iterator[tuple[str, Path]]:
        if missing := self.missing(data):
            raise UserError(f"{missing}; put it there, or mend the name")
        for split in data.split_names:
            found = _candidates(self.root / data.folder, split)
            if len(found) > 1:
                names = ", ".join(path.name for path in found)
                raise UserError(f'the split "{split}" could be any of {names}; name it with its ending, or keep one')
            yield split, found[0]


def _candidates(folder: Path, split: str) -> list[Path]:
    exact = folder / split
    if exact.exists():
        return [exact]
    return [path for path in (folder / f"{split}{ending}" for ending in ENDINGS) if path.is_file()]


def _rows_of(path: Path) -> Dataset:
    import pyarrow as pa
    from datasets import Dataset

    if not path.name.endswith(ENDINGS):
        raise UserError(f'"{path}" is of no known kind; give one of {", ".join(ENDINGS)}, or a folder of images')
    if path.name.endswith((".json", ".json.gz")) and (rows := _array(path)) is not None:
        return rows
    table = _read(path)
    # A column of values with commas between them becomes bytes where it is no text; only parquet has bytes on purpose.
    not_text = ".csv" in path.suffixes and any(pa.types.is_binary(column.type) for column in table.columns)
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        not_text = not_text or "UTF8" in str(error)
        if not not_text:
            raise UserError(f'"{path}" is damaged ({str(error).splitlines()[0]}); replace the file') from error
    if not_text:
        raise UserError(f'"{path}" has text that is not in UTF-8; save it so')
    return Dataset(table)


def _array(path: Path) -> Dataset | None:
    """Return the rows of a file that is one JSON array, or ``None`` if it is not: then it has a row a line."""
    import pyarrow as pa
    from datasets import Dataset

    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        if not content.lstrip().startswith(b"["):
            return None
        rows = json.loads(content)
        if not all(isinstance(row, dict) for row in rows):
            raise UserError(f'"{path}" is a list of something else than objects; give an object a row')
        return Dataset(pa.Table.from_pylist(rows))
    except (OSError, EOFError, json.JSONDecodeError, UnicodeDecodeError, pa.ArrowException) as error:
        what = str(error).splitlines()[0]
        raise UserError(f'"{path}" cannot be read as JSON ({what}); replace the file') from error
