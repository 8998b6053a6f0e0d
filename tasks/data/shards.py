"""Splits that are several parquet files, as the hub has them: ``train-00000-of-00002.parquet`` and its second part."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from parbench.bench.util.errors import UserError
from parbench.tasks.data.source import Reads
from parbench.tasks.data.tables import read_table

if TYPE_CHECKING:
    import pyarrow as pa

_SHARD = re.compile(r"(?P<name>.+)-\d{5}-of-(?P<count>\d{5})\.parquet")
_SET = re.compile(r"(?P<name>.+)-\*-of-(?P<count>\d{5})\.parquet")


def shard_sets(folder: Path, name: str) -> list[Path]:
    """Return the sets of shards of a name in a folder, as ``train-*-of-00002.parquet``; usually one or none."""
    found = (_SHARD.fullmatch(path.name) for path in folder.iterdir())
    counts = {match["count"] for match in found if match and match["name"] == name}
    return [folder / f"{name}-*-of-{count}.parquet" for count in sorted(counts)]


def shards(path: Path) -> list[Path]:
    """Return all files of a set, in their order; of a file, this file alone."""
    match = _SET.fullmatch(path.name)
    if match is None:
        return [path]
    return [path.with_name(path.name.replace("*", f"{number:05d}")) for number in range(int(match["count"]))]


def absent(path: Path) -> Path | None:
    """Return a file of a set of shards that is not there, if there is one."""
    return next((file for file in shards(path) if not file.exists()), None)


def read_shards(path: Path, reads: Reads | None = None) -> pa.Table:
    """Return the rows of a file, or of all files of its set; see `parbench.tasks.data.tables.read_table`.

    Raises:
        UserError: one cannot be read, or has columns of other names or types than the first.
    """
    import pyarrow as pa

    files = shards(path)
    tables = [read_table(file, reads) for file in files]
    for file, table in zip(files, tables, strict=True):
        if table.schema != tables[0].schema:
            raise UserError(
                f'"{file}" has columns of other names or types than "{files[0].name}", the first part of this split: '
                f"{_described(table)}, and {_described(tables[0])}; write all parts alike"
            )
    return pa.concat_tables(tables)


def _described(table: pa.Table) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in table.schema)
