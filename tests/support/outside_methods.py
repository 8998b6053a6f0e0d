"""Methods of an outside package, for child processes and for this one."""

import importlib
import shutil
import sys
from contextlib import contextmanager

from parbench.methods import METHODS
from tests.support.paths import SUPPORT


def install_methods(site, module, names):
    """Install a module of this folder with methods as a package of its own; its constants are the names in capitals."""
    info = site / f"{module}-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(SUPPORT / f"{module}.py", site)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    points = "".join(f"{name} = {module}:{name.upper()}\n" for name in names)
    (info / "entry_points.txt").write_text(f"[parbench.methods]\n{points}")
    return site


@contextmanager
def importable(site, module):
    """Return a context in which this process finds the methods, and so do the processes of its runs."""
    sys.path.insert(0, str(site))
    _forget(module)
    try:
        yield
    finally:
        sys.path.remove(str(site))
        _forget(module)


def _forget(module):
    importlib.invalidate_caches()
    sys.modules.pop(module, None)
    vars(METHODS).pop("_outside", None)
