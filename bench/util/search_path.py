"""Keeps the current folder off Python's search path: what happens to lie there must not replace a library.

A folder ``datasets/`` or a file ``random.py`` in the folder that a command is given in would be imported in place of
the module of that name, by this process or by one that it starts. This module imports nothing that is not loaded when
Python has started.
"""

from __future__ import annotations

import os
import sys


def leave_current_folder() -> None:
    """Take the current folder off the search path of this process and of those that it starts.

    Only entries in front of the standard library are taken off. Behind it, where packages installed in place
    (``pip install -e .``) are, the current folder hides nothing and stays.
    """
    sys.path[:] = without_current_folder(sys.path)
    os.environ.update(search_path_variables())


def without_current_folder(path: list[str]) -> list[str]:
    """Return a search path without the current folder in front of the standard library."""
    standard = os.path.dirname(os.__file__)
    end = path.index(standard) if standard in path else len(path)
    return [entry for place, entry in enumerate(path) if place >= end or not _is_current_folder(entry)]


def search_path_variables() -> dict[str, str]:
    """Return the environment variables that keep the current folder off the search path of a started process."""
    entries = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    kept = [os.path.abspath(entry) for entry in entries if not _is_current_folder(entry)]
    # The `-P` of Python 3.11 and later: neither the current folder nor that of a script is searched.
    return {"PYTHONSAFEPATH": "1", **({"PYTHONPATH": os.pathsep.join(kept)} if "PYTHONPATH" in os.environ else {})}


def _is_current_folder(entry: str) -> bool:
    """Return whether an entry is the current folder, unless this project is imported from there."""
    try:
        here = os.path.realpath(os.getcwd())
    except FileNotFoundError:  # it was deleted
        return entry == ""
    own = {os.path.dirname(os.path.abspath(folder)) for folder in sys.modules["parbench"].__path__}
    return os.path.realpath(entry or ".") == here and here not in {os.path.realpath(folder) for folder in own}
