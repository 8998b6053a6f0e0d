"""Local files in the hub's column names: one folder a task, one file or folder a split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UserError
from tasks.data.image_files import class_names, image_files, read_class_folders, read_image_list
from tasks.data.source import DataRef

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz")
IMAGE_LIST = ".txt"


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
        """Read every split."""
        from datasets import Dataset

        paths = dict(self._files(data))
        folders = {split: path for split, path in paths.items() if path.is_dir()}
        names = class_names(folders, data.train) if folders else []

        def read(path: Path) -> Dataset:
            if path.is_dir():
                return read_class_folders(path, names)
            return read_image_list(path) if path.suffix == IMAGE_LIST else Dataset(_read(path))

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


def _read(path: Path) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv, json, parquet

    try:
        if path.suffix == ".parquet":
            return parquet.read_table(path)
        with pa.input_stream(str(path), compression="detect") as stream:
            if ".csv" in path.suffixes:
                # Line breaks inside quotes are text, as pandas and the hub read them.
                return csv.read_csv(stream, parse_options=csv.ParseOptions(newlines_in_values=True))
            return json.read_json(stream)
    except (pa.ArrowException, OSError) as error:
        what = str(error).splitlines()[0]
        raise UserError(f'"{path}" cannot be read as {"".join(path.suffixes)} ({what}); replace the file') from error
