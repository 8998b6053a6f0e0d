"""Local files in the hub's column names: one folder a task, one file a split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UserError
from tasks.data.source import DataRef

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz")


@dataclass(frozen=True)
class FolderSource:
    """Files under one root: ``ROOT/glue-sst2/train.jsonl.gz`` (or ``ROOT/glue/sst2/``, parquet, csv).

    A split's file is ``SPLIT.ending``, or ``SPLIT_anything.ending`` where the file is only a part of the official split
    and its name says so.
    """

    root: Path

    def missing(self, data: DataRef) -> str | None:
        """Return which folder or split is not under the root."""
        folder = self._folder(data)
        if folder is None:
            return f'there is no folder "{data.folder}" in "{self.root}"'
        for split in data.split_names:
            if not _candidates(folder, split):
                return f'there is no {split} file (one of {", ".join(ENDINGS)}) in "{folder}"'
        return None

    def describe(self, data: DataRef) -> str:
        """Return the folder's own name: a full path says more of a machine than of the data."""
        return f"local folder {data.folder}"

    def revision(self, data: DataRef) -> str:
        """Return the hash of the files' names and contents."""
        total = hashlib.sha256()
        for _, path in self._files(data):
            total.update(f"{path.name}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
        return f"sha256:{total.hexdigest()}"

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Read every split."""
        from datasets import Dataset

        return {split: Dataset(_read(path)) for split, path in self._files(data)}

    def _folder(self, data: DataRef) -> Path | None:
        choices = (self.root / data.folder, self.root / data.folder.replace("-", "/", 1))
        return next((folder for folder in choices if folder.is_dir()), None)

    def _files(self, data: DataRef) -> Iterator[tuple[str, Path]]:
        missing = self.missing(data)
        folder = self._folder(data)
        if missing or folder is None:
            raise UserError(f"{missing}; put it there, or give another --data-root")
        for split in data.split_names:
            paths = _candidates(folder, split)
            if len(paths) > 1:
                names = ", ".join(path.name for path in paths)
                raise UserError(f'"{folder}" has several {split} files ({names}); keep one')
            yield split, paths[0]


def _candidates(folder: Path, split: str) -> list[Path]:
    exact = [folder / f"{split}{ending}" for ending in ENDINGS]
    found = [path for path in exact if path.is_file()]
    return found or sorted(path for ending in ENDINGS for path in folder.glob(f"{split}_*{ending}"))


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
