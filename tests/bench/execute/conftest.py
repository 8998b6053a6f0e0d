import os
import shutil
import sys

import pytest

from tests.support.paths import SUPPORT

NAMES = ("segfault", "hang", "oom", "grow", "nan", "raises", "exits", "killed_once", "lost_once", "slow", "crawls")


@pytest.fixture
def site(tmp_path):
    """A folder of outside packages with methods that go wrong."""
    folder = tmp_path / "site"
    info = folder / "misbehaving-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(SUPPORT / "misbehaving.py", folder)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: misbehaving\nVersion: 1.0\n")
    points = "".join(f"{name} = misbehaving:{name.upper()}\n" for name in NAMES)
    (info / "entry_points.txt").write_text(f"[parbench.methods]\n{points}")
    return folder


@pytest.fixture
def command(site, tiny_data, tiny_model, tmp_path):
    """Return a `bench run` on the tiny model as arguments of a process, and its environment."""

    def make(methods, *arguments, seeds="1", steps=8):
        settings = [f"--set=train.{value}" for value in (f"max_steps={steps}", "max_length=32", "checkpoint_steps=2")]
        return [
            *(
                sys.executable,
                "-m",
                "parbench.bench",
                "run",
                "--suite",
                "mini",
                "--tasks",
                "glue/sst2",
                "--methods",
                methods,
            ),
            *("--model", str(tiny_model), "--data-root", str(tiny_data), "--seeds", seeds, *settings),
            *("--out", str(tmp_path / "store"), *map(str, arguments)),
        ]

    environment = {
        **os.environ,
        "PYTHONPATH": str(site),
        "MISBEHAVING_MARKER": str(tmp_path / "marker"),
        "OMP_NUM_THREADS": "1",
    }
    make.environment = environment
    return make
