"""Images that a table names by their files, below the table's folder."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

from parbench.bench.util.errors import UserError
from parbench.bench.util.file_errors import reading

if TYPE_CHECKING:
    from datasets import Dataset

_FOUND = "_images_found"


def with_named_images(dataset: Dataset, columns: Sequence[str], table: Path) -> Dataset:
    """Return the rows with the images of ``columns`` by path, not read; columns that hold images stay as they are.

    Args:
        dataset: the rows; a column of names has one text per row, or a list of them.
        columns: the columns of images; one that is not there is left to the task's own check.
        table: the file of the rows, beside which the images are.

    Raises:
        UserError: a name leads out of the folder, or there is no such file.
    """
    from datasets import Image, List, Value

    for column in columns:
        feature = dataset.features.get(column)
        several = isinstance(feature, List) and feature.feature == Value("string")
        if feature != Value("string") and not several:
            continue
        paths: list[Any] = []
        for row, names in enumerate(dataset[column][:], start=1):
            found = [str(_inside(name, table, row)) for name in (names if several else [names])]
            paths.append(found if several else found[0])
        image = Image(decode=False)
        # First the new column, then without the old: a table of no column has no rows.
        kind = List(Value("string")) if several else Value("string")
        dataset = dataset.add_column(_FOUND, paths, feature=kind).remove_columns(column).rename_column(_FOUND, column)
        dataset = dataset.cast_column(column, List(image) if several else image)
    return dataset


def named_files(dataset: Dataset, columns: Sequence[str]) -> Iterator[Path]:
    """Yield the files of the images that `with_named_images` has found, in the order of the rows.

    Args:
        dataset: its rows.
        columns: the columns of images.
    """
    for column in columns:
        if column not in dataset.column_names:
            continue
        for value in dataset[column][:]:
            for image in value if isinstance(value, list) else [value]:
                if isinstance(image, dict) and image.get("path") and not image.get("bytes"):
                    yield Path(image["path"])


def _inside(name: Any, table: Path, row: int) -> Path:
    """Return the file of an image by its name."""
    where = f'row {row} of "{table}"'
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise UserError(f"{where} names no image; give the path of one below its folder, or remove the row")
    parts = PurePosixPath(name).parts
    if ".." in parts or PurePosixPath(name).is_absolute() or PureWindowsPath(name).is_absolute():
        raise UserError(f'{where} names an image outside its folder ("{name}"); refusing to read it')
    path = table.parent / name
    with reading(path):
        if not path.is_file():
            raise UserError(f'{where} names the image "{name}", and there is no such file in "{table.parent}"')
        if not path.resolve().is_relative_to(table.parent.resolve()):
            raise UserError(f'{where} names "{name}", a link that leads out of its folder; refusing to read it')
    return path
