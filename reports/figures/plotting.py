"""Import matplotlib, whatever the user's own settings files hold.

It reads ``matplotlibrc`` and the folder ``stylelib`` when it is imported, and one that is not UTF-8 ends the import.
Figures are drawn in a style of their own (`parbench.reports.figures.style`), so the user's files are not needed. Those
that can be read stay in force, for a script that draws figures of its own beside these.
"""

from __future__ import annotations

import sys

from parbench.reports.plotting import import_matplotlib


def _forget(prefix: str) -> None:
    """Drop what an import that failed has left of a module and its submodules."""
    for name in [name for name in sys.modules if name == prefix or name.startswith(f"{prefix}.")]:
        del sys.modules[name]


_WAS_THERE = "matplotlib" in sys.modules
try:
    import matplotlib.style  # noqa: F401 - for whoever imports it next
except (OSError, ValueError):  # a UnicodeDecodeError is a ValueError
    _forget("matplotlib.style" if _WAS_THERE else "matplotlib")
    import_matplotlib()
