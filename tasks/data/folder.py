"""Local files: one folder per task, and in it one file or folder per split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.bench.util.errors import UserError
from parbench.bench.util.file_errors import reading
from parbench.tasks.data.hidden import walk
from parbench.tasks.data.image_files import class_names, image_files, read_class_folders, read_image_list
from parbench.tasks.data.named_images import named_files, with_named_images
from parbench.tasks.data.shards import absent, read_shards, shard_sets, shards
from parbench.tasks.data.source import DataRef, Reads
from parbench.tasks.data.tables import ENDINGS, as_dataset

if TYPE_CHECKING:
    from datasets import Dataset

IMAGE_LIST = ".txt"


@dataclass(frozen=True)
class FolderSource:
    """Files under one root: ``ROOT/glue-sst2/train.jsonl.gz`` (or ``ROOT/glue/sst2/``, parquet, CSV).

    A split is the file or folder of its name, with or without the file's ending; or the file ``SPLIT_anything.ending``
    where it is only a part of the official split and is named so; or the parquet files of a download of the hub,
    ``SPLIT-00000-of-00001.parquet``. Images may also be files: in ``SPLIT/CLASS/``,
    where the classes are numbered by their sorted names, or wherever a list ``SPLIT.txt`` names them, one line per
    image with its path and class number.
    """

    root: Path

    def missing(self, data: DataRef) -> str | None:
        """Return which folder or split is not under the root.

        Raises:
            UserError: it cannot even be looked for.
        """
        with reading(self.root / data.folder):
            folder = self._folder(data)
            if folder is None:
                return f'there is no folder "{data.folder}" in "{self.root}"'
            for split in data.split_names:
                name = data.files.get(split, split)
                found = _candidates(folder, name)
                if lost := next((file for file in map(absent, found) if file), None):
                    return f'"{lost.name}" is not in "{folder}", where other parts of the split {split} are'
                if not found:
                    return (
                        f'there is no {name} file (one of {", ".join(ENDINGS)}) in "{folder}", nor a folder of images '
                        f"called {name} (one folder in it per class) or a list of images {name}{IMAGE_LIST}"
                    )
        return None

    def describe(self, data: DataRef) -> str:
        """Return the folder's own name: a full path describes a machine more than the data."""
        return "local files" if data.folder == "." else f"local folder {data.folder}"

    def revision(self, data: DataRef) -> str:
        """Return the hash of the files' names and contents.

        Raises:
            UserError: a split is not there, there are two of its name, or it cannot be read.
        """
        total = hashlib.sha256()
        for _, path in self._files(data):
            with reading(path):
                for file in (*_contents(path), *self._named(data, path)):
                    name = file.relative_to(path.parent).as_posix()
                    with file.open("rb") as content:
                        digest = hashlib.file_digest(content, "sha256").hexdigest()
                    total.update(f"{name}\0{digest}\n".encode())
        return f"sha256:{total.hexdigest()}"

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Read every split.

        Raises:
            UserError: a split is not there, there are two of its name, or it cannot be read.
        """
        paths = dict(self._files(data))
        with reading(self.root / data.folder):
            folders = {split: path for split, path in paths.items() if path.is_dir()}
            names = class_names(folders, data.train, data.media) if folders else []

            def read(path: Path) -> Dataset:
                if path.is_dir():
                    return read_class_folders(path, names, data.media)
                if path.suffix == IMAGE_LIST:
                    return read_image_list(path, data.media)
                return with_named_images(as_dataset(read_shards(path, data.reads), path), data.images, path)

            return {split: read(path) for split, path in paths.items()}

    def _named(self, data: DataRef, path: Path) -> list[Path]:
        """Return the files of the images that a split's file names, each once, sorted."""
        if not data.images or path.is_dir() or path.suffix == IMAGE_LIST:
            return []
        columns = Reads(texts=data.images)
        rows = with_named_images(as_dataset(read_shards(path, columns), path), data.images, path)
        return sorted(set(named_files(rows, data.images)))

    def paths(self, data: DataRef) -> list[Path]:
        """Return every file or folder that a split's name could mean; none where there is none.

        Raises:
            UserError: they cannot even be looked for.
        """
        with reading(self.root / data.folder):
            folder = self._folder(data)
            names = [data.files.get(split, split) for split in data.split_names]
            found = [] if folder is None else [path for name in names for path in _candidates(folder, name)]
            return [file for path in found for file in shards(path)]

    def file_of(self, data: DataRef, split: str) -> Path:
        """Return the file or folder of a split.

        Raises:
            UserError: it is not there, or there are two of its name.
        """
        return dict(self._files(data))[split]

    def ignored(self, data: DataRef) -> int:
        """Return how many files in the splits' folders are not data; see `parbench.tasks.data.hidden`.

        Raises:
            UserError: a split is not there, or a folder cannot be read.
        """
        with reading(self.root / data.folder):
            return sum(walk(path).ignored for _, path in self._files(data) if path.is_dir())

    def _folder(self, data: DataRef) -> Path | None:
        choices = (self.root / data.folder, self.root / data.folder.replace("-", "/", 1))
        return next((folder for folder in choices if folder.is_dir()), None)

    def _files(self, data: DataRef) -> Iterator[tuple[str, Path]]:
        missing = self.missing(data)
        folder = self._folder(data)
        if missing or folder is None:
            raise UserError(f"{missing}; put it there, fix the name, or give another --data-root")
        for split in data.split_names:
            found = _candidates(folder, data.files.get(split, split))
            if len(found) > 1:
                names = ", ".join(path.name for path in found)
                raise UserError(
                    f'"{folder}" has several {split} files: the split "{split}" could be any of {names}; keep one, or '
                    "name it with its ending in a task file"
                )
            yield split, found[0]


def _candidates(folder: Path, name: str) -> list[Path]:
    """Return what a split's name could mean: the path as it is, with an ending, or a part of the split."""
    exact = folder / name
    if exact.is_file():
        return [exact]
    endings = (*ENDINGS, IMAGE_LIST)
    found = [path for path in (folder / f"{name}{ending}" for ending in endings) if path.is_file()]
    if exact.is_dir():
        found.append(exact)
    return found or [
        *sorted(path for ending in ENDINGS for path in folder.glob(f"{_plain(name)}_*{ending}")),
        *shard_sets(folder, name),
    ]


def _plain(name: str) -> str:
    """Return a name whose characters mean only themselves in a pattern of file names."""
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name)


def _contents(path: Path) -> list[Path]:
    """Return all the files that a split is made of."""
    if path.is_dir():
        return image_files(path)
    if path.suffix == IMAGE_LIST:
        listed = {Path(example["path"]) for example in read_image_list(path)["image"]}
        return [path, *sorted(file for file in listed if file.is_file())]
    return shards(path)
