"""Local files by the names that a task gives them, where those are not the hub's names of splits."""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.bench.util.errors import UserError
from parbench.bench.util.file_errors import reading
from parbench.tasks.data.folder import ENDINGS, as_dataset, read_table
from parbench.tasks.data.image_files import class_names, image_files, read_class_folders
from parbench.tasks.data.source import DataRef

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset


@dataclass(frozen=True)
class TaskFiles:
    """Files under one root: ``ROOT/data.folder/split``.

    A split's name is a file's, with or without its ending; or that of a folder of images, one folder in it a class.
    """

    root: Path

    def missing(self, data: DataRef) -> str | None:
        """Return which folder or split is not there.

        Raises:
            UserError: it cannot even be looked for.
        """
        folder = self.root / data.folder
        with reading(folder):
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
        """Return the hash of the files' names and contents.

        Raises:
            UserError: a split is not there, there are two of its name, or it cannot be read.
        """
        total = hashlib.sha256()
        for _, path in self._paths(data):
            with reading(path):
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
        with reading(self.root / data.folder):
            folders = {split: path for split, path in paths.items() if path.is_dir()}
            names = class_names(folders, data.train) if folders else []
            return {
                split: read_class_folders(path, names) if split in folders else _rows_of(path)
                for split, path in paths.items()
            }

    def paths(self, data: DataRef) -> list[Path]:
        """Return every file or folder that a split's name could mean; none where there is none.

        Raises:
            UserError: they cannot even be looked for.
        """
        folder = self.root / data.folder
        with reading(folder):
            return [path for split in data.split_names for path in _candidates(folder, split)]

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

    if not path.name.endswith(ENDINGS):
        raise UserError(f'"{path}" is of no known kind; give one of {", ".join(ENDINGS)}, or a folder of images')
    array = _array(path) if path.name.endswith((".json", ".json.gz")) else None
    table = read_table(path) if array is None else array
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
    return as_dataset(table, path)


def _array(path: Path) -> pa.Table | None:
    """Return the rows of a file that is one JSON array, or ``None`` if it is not: then it has a row a line."""
    import pyarrow as pa

    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        if not content.lstrip().startswith(b"["):
            return None
        rows = json.loads(content)
        if all(isinstance(row, dict) for row in rows):
            return pa.Table.from_pylist(rows)
    except RecursionError as error:
        raise UserError(f'"{path}" is nested too deeply for rows of examples; replace the file') from error
    except (OSError, EOFError, ValueError, OverflowError, zlib.error, pa.ArrowException) as error:
        what = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(f'"{path}" cannot be read as JSON ({what}); replace the file') from error
    raise UserError(f'"{path}" is a list of something else than objects; give an object a row')
