"""Lets a CUDA-built torchvision be imported beside a CPU-only torch.

torchvision registers fake kernels for C++ operators without checking that its extension loaded, so beside a CPU build
of torch `import torchvision` dies with "operator torchvision::nms does not exist"; and because transformers sees
torchvision as installed, peft, timm and every transformers model die with it. The hook declares the missing operators
just before that module runs. Where the extension loaded (any matching pair of builds) it does nothing. Importing
`parbench` installs it; this module itself imports nothing that is not loaded when Python has started.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

_MODULE = "torchvision._meta_registrations"
_FAKE_KERNEL = r'register_fake\("(torchvision::\w+)"\)'
# The operators concerned (nms, qnms) share this schema; they are never called: no extension, no kernel.
_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


class DeclareMissingOperators:
    """Declares torchvision's C++ operators before its fake kernels are registered, if the extension did not load."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find the one module as usual, after declaring what it needs."""
        if fullname != _MODULE:
            return None
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.origin is not None:
            _declare_missing(spec.origin)
        return spec


def _declare_missing(source_file: str) -> None:
    import re
    from pathlib import Path

    import torch
    from torchvision.extension import _has_ops

    if not _has_ops():
        for operator in re.findall(_FAKE_KERNEL, Path(source_file).read_text(encoding="utf-8")):
            torch.library.define(operator, _SCHEMA)


def install() -> None:
    """Put the hook in front of the import system, unless it is there or torchvision is already imported."""
    already_there = any(type(finder).__name__ == DeclareMissingOperators.__name__ for finder in sys.meta_path)
    if "torchvision" not in sys.modules and not already_there:
        sys.meta_path.insert(0, DeclareMissingOperators())
