import os
import subprocess
import sys

import pytest

from tests.support.paths import SOURCE

CODE = """
import os
before = dict(os.environ), os.getcwd()
from parbench.reports.plotting import import_matplotlib
import_matplotlib()
assert (dict(os.environ), os.getcwd()) == before
import matplotlib
print(matplotlib.get_backend(), matplotlib.rcParams["figure.dpi"], matplotlib.rcParams["text.usetex"])
"""
BROKEN = b"figure.dpi: 7\ntext.usetex: True\n# \xff\n"


@pytest.mark.parametrize(
    "where",
    [
        "working folder",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("backend", "variable", "configuration", "style")),
    ],
)
def test_what_the_user_has_set_for_matplotlib_neither_breaks_nor_changes_figures(tmp_path, where):
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    configuration = tmp_path / "configuration"
    (configuration / "stylelib").mkdir(parents=True)
    work = tmp_path / "work"
    work.mkdir()
    if where == "working folder":
        (work / "matplotlibrc").write_bytes(BROKEN)
    elif where == "variable":
        (tmp_path / "mine").write_bytes(BROKEN)
        environment["MATPLOTLIBRC"] = str(tmp_path / "mine")
    elif where == "backend":
        environment["MPLBACKEND"] = "nonsense"
    else:
        name = "matplotlibrc" if where == "configuration" else "stylelib/mine.mplstyle"
        (configuration / name).write_bytes(BROKEN)
        environment["MPLCONFIGDIR"] = str(configuration)

    def python(code):
        return subprocess.run([sys.executable, "-c", code], env=environment, cwd=work, capture_output=True, text=True)

    assert python("import matplotlib.style").returncode != 0
    done = python(CODE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.lower() == "agg 100.0 false\n"
    # A script that draws without the command line.
    done = python("import parbench.reports.figures")
    assert done.returncode == 0, done.stderr
