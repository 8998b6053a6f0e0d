"""Import matplotlib, whatever the user's own settings files hold.

It reads ``matplotlibrc`` and the folder ``stylelib`` when it is imported, and one that is not UTF-8 ends the import.
Figures are drawn in a style of their own (`parbench.reports.figures.style`), so the user's files are never needed.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def _without_user_files() -> Iterator[None]:
    """Hide the settings files of the working folder, of the environment and of the user's configuration."""
    kept = {name: os.environ.pop(name, None) for name in ("MATPLOTLIBRC", "MPLCONFIGDIR")}
    with tempfile.TemporaryDirectory() as empty, contextlib.chdir(empty):
        os.environ["MPLCONFIGDIR"] = empty
        try:
            yield
        finally:
            del os.environ["MPLCONFIGDIR"]
            os.environ.update({name: value for name, value in kept.items() if value is not None})


def _forget(prefix: str) -> None:
    """Drop what an import that failed has left of a module and its submodules."""
    for name in [name for name in sys.modules if name == prefix or name.startswith(f"{prefix}.")]:
        del sys.modules[name]


_WAS_THERE = "matplotlib" in sys.modules
try:
    import matplotlib.style
except (OSError, ValueError):  # a UnicodeDecodeError is a ValueError
    _forget("matplotlib.style" if _WAS_THERE else "matplotlib")
    with _without_user_files():
        import matplotlib.style  # noqa: F401 - for whoever imports it next
