"""Imports matplotlib as it comes: without the user's settings, styles and backend, of which a broken one ends it."""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from parbench.bench.util.errors import UserError


def import_matplotlib() -> None:
    """Import matplotlib, to be called at the start of a command that draws.

    ``matplotlibrc`` of the working folder, of ``MATPLOTLIBRC`` and of the user's configuration are not read, nor the
    user's style files, nor ``MPLBACKEND``: figures are drawn in a style of their own, into files.

    Raises:
        UserError: it is not installed completely.
    """
    found = find_spec("matplotlib")
    if found is None or not found.submodule_search_locations:
        raise UserError("matplotlib is not installed; install it with: pip install matplotlib")
    settings = Path(found.submodule_search_locations[0]) / "mpl-data" / "matplotlibrc"
    with (
        tempfile.TemporaryDirectory(prefix="parbench-") as empty,
        contextlib.chdir(empty),
        # It looks for style files here and now; its cache of fonts keeps its place.
        _environment(MATPLOTLIBRC=str(settings), MPLBACKEND="agg", MPLCONFIGDIR=empty),
    ):
        importlib.import_module("matplotlib.style")


@contextlib.contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
