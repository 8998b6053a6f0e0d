"""Reads the rows of parquet, JSON and CSV files."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.bench.util.errors import UserError
from parbench.tasks.data.csv_rows import csv_table, wanted_columns
from parbench.tasks.data.json_rows import json_table
from parbench.tasks.data.source import Reads
from parbench.tasks.data.text_files import unreadable

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".json", ".json.gz", ".csv", ".csv.gz")

# Where `datasets` keeps what it knows of the columns of a parquet file.
_DESCRIPTION = b"huggingface"


def read_table(path: Path, reads: Reads | None = None) -> pa.Table:
    """Return the columns that ``reads`` names of a file of one of `ENDINGS`.

    All columns are returned if ``reads`` is ``None`` or names one that is absent.

    Raises:
        UserError: it cannot be read.
    """
    if not path.name.endswith(ENDINGS):
        raise UserError(
            f'"{path}" is of no known kind; give one of {", ".join(ENDINGS)}, a folder of images, or a list of them'
        )
    if path.suffix == ".parquet":
        return _parquet_table(path, reads)
    return csv_table(path, reads) if path.name.endswith((".csv", ".csv.gz")) else json_table(path, reads)


def _parquet_table(path: Path, reads: Reads | None) -> pa.Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        # Not `read_table`, which takes folders called ``name=value`` in the path for columns.
        with parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = None if reads is None else reads.columns(names)
            table = file.read(columns=wanted)
        kept = wanted_columns(table.column_names, reads, path)
        table = _described_as_read(table.select(kept))
        for place in range(table.num_columns):
            kind = table.schema.field(place).type
            if pa.types.is_dictionary(kind):
                column = table.column(place).cast(kind.value_type)
                table = table.set_column(place, table.schema.field(place).with_type(kind.value_type), column)
        table.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        what = str(error).splitlines()[0]
        if "UTF8" in what:
            raise UserError(f'"{path}" has text that is not in UTF-8; save it as UTF-8') from error
        raise unreadable(path, what) from error
    return table


def _described_as_read(table: pa.Table) -> pa.Table:
    """Return the table without its file's description of the columns that are not read."""
    metadata = dict(table.schema.metadata or {})
    try:
        description = json.loads(metadata.get(_DESCRIPTION, b"null"))
        features = description["info"]["features"]
        kept = {name: features[name] for name in table.column_names if name in features}
    except (ValueError, TypeError, KeyError, RecursionError):
        # Whether it can be used is decided by `as_dataset`.
        return table
    description["info"]["features"] = kept
    return table.replace_schema_metadata({**metadata, _DESCRIPTION: json.dumps(description).encode()})


def as_dataset(table: pa.Table, path: Path) -> Dataset:
    """Return rows of a file as a dataset whose images, sounds and the like are not decoded.

    Raises:
        UserError: a column names other files in place of their bytes, or is of a type that `datasets` does not know.
    """
    import pyarrow as pa
    from datasets import Dataset

    _refuse_paths(table, path)
    try:
        dataset = Dataset(table)
        for name, feature in dataset.features.items():
            if getattr(feature, "decode", False):
                dataset = dataset.cast_column(name, dataclasses.replace(feature, decode=False))
    except (pa.ArrowException, ValueError, TypeError, KeyError, AttributeError, NotImplementedError) as error:
        what = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(
            f'"{path}" describes its columns in a way that datasets does not read ({what}); save it without the '
            "description, or save texts as strings and numbers as integers or floats"
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
            raise UserError(f"{what}; put the bytes into the column")
