"""Local files in the hub's column names: one folder a task, one file or folder a split."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.bench.util.errors import UserError
from parbench.tasks.data.image_files import class_names, image_files, read_class_folders, read_image_list
from parbench.tasks.data.source import DataRef

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz")
IMAGE_LIST = ".txt"

# No row of examples is nested as deeply; pyarrow counts levels on a stack that ends somewhere.
_MOST_NESTED = 1000


@dataclass(frozen=True)
class FolderSource:
    """Files under one root: ``ROOT/glue-sst2/train.jsonl.gz`` (or ``ROOT/glue/sst2/``, parquet, csv).

    A split's file is ``SPLIT.ending``, or ``SPLIT_anything.ending`` where the file is only a part of the official split
    and its name says so. Images may also be files: in ``SPLIT/CLASS/``, where the classes are numbered by their sorted
    names, or wherever a list ``SPLIT.txt`` says, a line each of path and class number.
    """

    root: Path

    def missing(self, data: DataRef) -> str | None:
        """Return which folder or split is not under the root."""
        folder = self._folder(data)
        if folder is None:
            return f'there is no folder "{data.folder}" in "{self.root}"'
        for split in data.split_names:
            name = data.files.get(split, split)
            if not _candidates(folder, name):
                return (
                    f"there is no {name} file (one of {', '.join(ENDINGS)}; of images also a list {name}.txt or a "
                    f'folder {name} with one folder a class) in "{folder}"'
                )
        return None

    def describe(self, data: DataRef) -> str:
        """Return the folder's own name: a full path says more of a machine than of the data."""
        return f"local folder {data.folder}"

    def revision(self, data: DataRef) -> str:
        """Return the hash of the files' names and contents."""
        total = hashlib.sha256()
        for _, path in self._files(data):
            for file in _contents(path):
                name = file.relative_to(path.parent)
                total.update(f"{name}\0{hashlib.sha256(file.read_bytes()).hexdigest()}\n".encode())
        return f"sha256:{total.hexdigest()}"

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Read every split.

        Raises:
            UserError: a split is not there, there are two of its name, or it cannot be read.
        """
        paths = dict(self._files(data))
        folders = {split: path for split, path in paths.items() if path.is_dir()}
        names = class_names(folders, data.train) if folders else []

        def read(path: Path) -> Dataset:
            if path.is_dir():
                return read_class_folders(path, names)
            return read_image_list(path) if path.suffix == IMAGE_LIST else as_dataset(read_table(path), path)

        return {split: read(path) for split, path in paths.items()}

    def _folder(self, data: DataRef) -> Path | None:
        choices = (self.root / data.folder, self.root / data.folder.replace("-", "/", 1))
        return next((folder for folder in choices if folder.is_dir()), None)

    def _files(self, data: DataRef) -> Iterator[tuple[str, Path]]:
        missing = self.missing(data)
        folder = self._folder(data)
        if missing or folder is None:
            raise UserError(f"{missing}; put it there, or give another --data-root")
        for split in data.split_names:
            paths = _candidates(folder, data.files.get(split, split))
            if len(paths) > 1:
                names = ", ".join(path.name for path in paths)
                raise UserError(f'"{folder}" has several {split} files ({names}); keep one')
            yield split, paths[0]


def _candidates(folder: Path, split: str) -> list[Path]:
    exact = [folder / f"{split}{ending}" for ending in ENDINGS]
    found = [path for path in exact if path.is_file()]
    if not found and (folder / split).is_dir():
        found = [folder / split]
    if not found and (folder / f"{split}{IMAGE_LIST}").is_file():
        found = [folder / f"{split}{IMAGE_LIST}"]
    return found or sorted(path for ending in ENDINGS for path in folder.glob(f"{split}_*{ending}"))


def _contents(path: Path) -> list[Path]:
    """Return all the files that a split is made of."""
    if path.is_dir():
        return image_files(path)
    if path.suffix == IMAGE_LIST:
        listed = {Path(example["path"]) for example in read_image_list(path)["image"]}
        return [path, *sorted(file for file in listed if file.is_file())]
    return [path]


def read_table(path: Path) -> pa.Table:
    """Return the rows of a file of one of `ENDINGS`.

    Raises:
        UserError: it cannot be read.
    """
    import pyarrow as pa
    from pyarrow import csv, parquet
    from pyarrow import json as json_lines

    try:
        if path.suffix == ".parquet":
            return parquet.read_table(path)
        with pa.input_stream(str(path), compression="detect") as stream:
            if ".csv" in path.suffixes:
                # Line breaks inside quotes are text, as pandas and the hub read them.
                return csv.read_csv(stream, parse_options=csv.ParseOptions(newlines_in_values=True))
            content = stream.read()
            _check_json(content)
            return json_lines.read_json(pa.BufferReader(content))
    except (pa.ArrowException, OSError, ValueError) as error:
        what = str(error).splitlines()[0]
        raise UserError(f'"{path}" cannot be read as {"".join(path.suffixes)} ({what}); replace the file') from error


def as_dataset(table: pa.Table, path: Path) -> Dataset:
    """Return rows of a file as a dataset whose images, sounds and the like are not decoded.

    Raises:
        UserError: a column is there twice, names other files in place of their bytes, or is said to be what `datasets`
            does not know.
    """
    import pyarrow as pa
    from datasets import Dataset

    if twice := next((name for name in table.column_names if table.column_names.count(name) > 1), None):
        raise UserError(f'"{path}" has the column "{twice}" twice; keep one')
    _refuse_paths(table, path)
    try:
        dataset = Dataset(table)
        for name, feature in dataset.features.items():
            if getattr(feature, "decode", False):
                dataset = dataset.cast_column(name, dataclasses.replace(feature, decode=False))
    except (pa.ArrowException, ValueError, TypeError, KeyError, AttributeError) as error:
        what = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(
            f'"{path}" describes its columns in a way that datasets does not read ({what}); save it without the '
            "description"
        ) from error
    return dataset


def _refuse_paths(table: pa.Table, path: Path) -> None:
    """Check that images and the like are in the file: no revision covers others, which may be any of this machine's.

    Raises:
        UserError: a row names a file and does not hold it.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, column in zip(table.column_names, table.columns, strict=True):
        if not pa.types.is_struct(column.type) or not {"bytes", "path"} <= {field.name for field in column.type}:
            continue
        held, named = (pc.struct_field(column, field) for field in ("bytes", "path"))
        row = pc.index(pc.and_(pc.is_null(held), pc.is_valid(named)), True).as_py()
        if row >= 0:
            what = f'"{path}" names a file in column {name}, row {row + 1}, and does not hold it'
            raise UserError(f"{what}; put the files' bytes into it, or give folders of images")


def _check_json(content: bytes) -> None:
    """Refuse what ends pyarrow's reader, and the program with it, instead of failing.

    Raises:
        ValueError: the first value is no object, or one is nested very deeply.
    """
    first = content.lstrip()[:1]
    if first and first != b"{":
        raise ValueError("it does not begin with an object, {...}; give one a line")
    for number, line in enumerate(io.BytesIO(content), start=1):
        if line.count(b"[") + line.count(b"{") > _MOST_NESTED:
            try:
                # Of whatever else is wrong with it the reader itself can tell.
                with suppress(ValueError):
                    json.loads(line)
            except RecursionError as error:
                raise ValueError(f"line {number} is nested too deeply for a row") from error
