"""parbench: parameter-efficient fine-tuning methods at equal budgets, equal tuning effort and measured cost.

The Python API is `run`, `load` and `leaderboard`, see `parbench.api`; everything else is in `parbench.methods`,
`parbench.tasks`, `parbench.reports` and `parbench.bench`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from parbench.bench.util import kernel_messages, torchvision_on_cpu

if TYPE_CHECKING:
    from parbench.api import Results as Results
    from parbench.api import leaderboard as leaderboard
    from parbench.api import load as load
    from parbench.api import run as run
    from parbench.bench.util.errors import UserError as UserError

__version__ = "0.1.0"

# Before anything imports peft or transformers.
torchvision_on_cpu.install()
kernel_messages.install()

# Imported when they are first used: `import parbench` loads neither torch nor pandas.
_LAZY = {
    "Results": "parbench.api",
    "UserError": "parbench.bench.util.errors",
    "leaderboard": "parbench.api",
    "load": "parbench.api",
    "run": "parbench.api",
}
_PACKAGES = ("bench", "methods", "reports", "tasks")


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name in _PACKAGES:
        return import_module(f"parbench.{name}")
    raise AttributeError(f"module 'parbench' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_PACKAGES})
