"""Writes named tensors as a model folder, and computes the checksum of a folder's tensors."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from transformers import PreTrainedConfig, PreTrainedModel

WEIGHTS = "model.safetensors"


def save_model(
    model_class: type[PreTrainedModel],
    config: PreTrainedConfig,
    tensors: Mapping[str, np.ndarray],
    folder: Path,
    untrained: str | None = None,
) -> None:
    """Write ``config.json`` and the tensors as float32.

    Args:
        model_class: the architecture; ``tensors`` uses its parameter names.
        config: its configuration.
        tensors: every parameter once; of tied parameters only the first.
        folder: the folder to write to.
        untrained: prefix of the parameters that are not written: each training draws its own.

    Raises:
        ValueError: a name or shape differs from the architecture's.
    """
    import numpy as np
    import torch
    from safetensors.numpy import save_file

    with torch.device("meta"):
        expected = {name: tuple(parameter.shape) for name, parameter in model_class(config).named_parameters()}
    if untrained is not None:
        expected = {name: shape for name, shape in expected.items() if not name.startswith(untrained)}
    given = {name: array.shape for name, array in tensors.items()}
    wrong = sorted(name for name in expected.keys() | given.keys() if expected.get(name) != given.get(name))
    if wrong:
        name = wrong[0]
        raise ValueError(
            f"{len(wrong)} tensors do not fit {model_class.__name__}, first {name}: "
            f"shape {given.get(name)} where {expected.get(name)} is expected"
        )
    config.architectures = [model_class.__name__]
    config.save_pretrained(folder)
    contiguous = {name: np.ascontiguousarray(array, dtype=np.float32) for name, array in tensors.items()}
    save_file(contiguous, folder / WEIGHTS, metadata={"format": "pt"})


def checksum(folder: Path) -> str:
    """Return the SHA-256 of all tensors, each with its name, type and shape.

    Unlike the hash of the file, it does not depend on the version of safetensors that wrote the file.
    """
    total = hashlib.sha256()
    for name, array in _tensors(folder / WEIGHTS):
        little_endian = array.astype(array.dtype.newbyteorder("<"), copy=False)
        total.update(f"{name}\0{array.dtype.name}\0{array.shape}\0".encode())
        total.update(little_endian.data)
    return total.hexdigest()


def _tensors(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        for name in sorted(file.keys()):
            yield name, file.get_tensor(name)
