"""The column of videos in a data set: what it may hold, and that every file in it is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parbench.bench.util.errors import UserError
from parbench.tasks.data.video.decoding import check_header

if TYPE_CHECKING:
    from datasets import Dataset

VIDEO = "video"


def checked_videos(dataset: Dataset, column: str, where: str) -> Dataset:
    """Return ``dataset`` with the files of ``column`` in ``video``; each header is read, no picture decoded.

    Args:
        dataset: ``column`` holds a file's bytes, or is a `Video` feature of `datasets` (bytes, or a path).
        column: its name.
        where: the split in words, for an error.

    Raises:
        UserError: the column is of another type, or a row of it is missing, no video, or too large.
    """
    import pyarrow as pa
    from datasets import Video

    kind = dataset.data.schema.field(column).type
    fields = {field.name for field in kind} if pa.types.is_struct(kind) else set()
    if not (pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or fields == {"bytes", "path"}):
        raise UserError(f"{where} has {kind} in column {column}, not videos: it must hold the bytes of video files")
    if column != VIDEO:
        dataset = dataset.rename_column(column, VIDEO)
    dataset = dataset.cast_column(VIDEO, Video(decode=False))
    for row, example in enumerate(dataset.select_columns(VIDEO)):
        check_header(example[VIDEO], f"row {row + 1} of {where}")
    return dataset
