"""Text files that users give: UTF-8, with or without a byte order mark, gzipped or not."""

from __future__ import annotations

import codecs
import gzip
import zlib
from pathlib import Path

from parbench.bench.util.errors import UserError

# The marks of UTF-32 begin like those of UTF-16, so they come first.
_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
# Bytes that are looked at to recognise an encoding without a mark.
_PROBE = 4096


def kind_of(path: Path) -> str:
    """Return a file's endings, such as ``.jsonl.gz``: the format that it is read as."""
    ending = path.suffixes[-1:] if path.suffix != ".gz" else path.suffixes[-2:]
    return "".join(ending)


def unreadable(path: Path, reason: str) -> UserError:
    """Return the error of a file that is not in the format of its name."""
    return UserError(f'"{path}" cannot be read as {kind_of(path) or "text"} ({reason}); replace the file')


def read_text(path: Path) -> str:
    """Return the content of a text file, without its byte order mark and with its line breaks as they are.

    Raises:
        UserError: it cannot be read, or is not in UTF-8.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise unreadable(path, _first_line(error)) from error
    return decode_text(content, path)


def decode_text(content: bytes, path: Path) -> str:
    """Return the text of ``content``, which ``path`` holds; see `read_text`.

    Raises:
        UserError: it is not in UTF-8.
    """
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), None)
    # Latin letters in UTF-16 have a zero byte each, always on the same side.
    few, many = sorted(content[:_PROBE][side::2].count(0) for side in (0, 1))
    if encoding is None and many > len(content[:_PROBE]) // 4 and few <= many // 10:
        encoding = "UTF-16"
    if encoding:
        raise UserError(f'"{path}" is in {encoding}, and not in UTF-8; save it as UTF-8')
    if b"\0" in content:
        raise unreadable(path, f"byte {content.index(0)} is zero, so it is not a text file")
    try:
        return content.removeprefix(codecs.BOM_UTF8).decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise UserError(
            f'"{path}" has text that is not in UTF-8 (line {line}, byte 0x{error.object[error.start]:02x}); save it as '
            "UTF-8"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__
